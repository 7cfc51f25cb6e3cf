"""SFI in SGLang's offline engine: a dense and a sparse request in one batch.

python examples/engine.py MODEL     # a folder or a name on the hub
"""

import argparse

import sglang
import torch

STORY = " ".join(f"On day {day} the harbor master wrote that {day % 17} ships came in." for day in range(60))
PROMPT = f"{STORY} On day 60"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="folder of the model, or its name on the hub")
    model = parser.parse_args().model

    on_gpu = torch.cuda.is_available()
    cpu = {"device": "cpu", "attention_backend": "torch_native", "max_total_tokens": 16384}
    machine = {"disable_prefill_cuda_graph": True} if on_gpu else cpu
    engine = sglang.Engine(model_path=model, log_level="error", radix_cache_backend="sfi", **machine)
    dense = {"temperature": 0, "max_new_tokens": 24}
    sparse = dense | {"custom_params": {"sfi": {"budget": 64, "recent": 64}}}
    for reply in engine.generate([PROMPT, PROMPT], [dense, sparse]):
        print(f"{reply['text']!r}\n  SFI: {reply['meta_info'].get('sfi')}")
    engine.shutdown()


if __name__ == "__main__":  # the engine starts processes that import this file
    main()
