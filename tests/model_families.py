"""Run as a program: builds models of several families as SGLang would, tiny and without weights, and prints as JSON
which layers SFI would cover of each, or why it can cover none. In a process of its own, because SGLang keeps a model's
settings for the whole process."""

import json
import sys
import tempfile
from pathlib import Path

SMALL = {
    "hidden_size": 64, "intermediate_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32,
    "num_hidden_layers": 4, "vocab_size": 128, "max_position_embeddings": 512, "dtype": "bfloat16",
}  # fmt: skip
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "num_local_experts": 4, "moe_intermediate_size": 32}
WINDOW = {"sliding_window": 16}
LINEAR = {f"linear_{name}": 16 for name in ("key_head_dim", "value_head_dim")}
LINEAR |= {f"linear_num_{name}_heads": 2 for name in ("key", "value")} | {"shared_expert_intermediate_size": 32}
FAMILIES = {  # model type: architecture and what is its own
    "llama": ("LlamaForCausalLM", {}),
    "qwen2": ("Qwen2ForCausalLM", {}),
    "qwen3": ("Qwen3ForCausalLM", {}),
    "qwen3_moe": ("Qwen3MoeForCausalLM", EXPERTS),
    "olmo2": ("Olmo2ForCausalLM", {}),
    "cohere": ("CohereForCausalLM", {}),
    "gemma2": ("Gemma2ForCausalLM", WINDOW),
    "gemma3_text": ("Gemma3ForCausalLM", WINDOW),
    "olmo3": ("Olmo3ForCausalLM", WINDOW),
    "exaone4": ("Exaone4ForCausalLM", WINDOW),
    "cohere2": ("Cohere2ForCausalLM", WINDOW),
    "gpt_oss": ("GptOssForCausalLM", {**EXPERTS, **WINDOW}),
    "qwen3_next": ("Qwen3NextForCausalLM", {**EXPERTS, **LINEAR}),
    "lfm2": ("Lfm2ForCausalLM", {"layer_types": ["conv", "full_attention", "conv", "full_attention"]}),
}
UNTOLD = {  # what SGLang reads and transformers would not keep
    "gemma2": {"hidden_act": "gelu_pytorch_tanh"},
    "exaone4": {"sliding_window_pattern": "LLLG"},
    "qwen3_next": {"full_attention_interval": 4},
}


def write_config(family: str, folder: Path, **more: object) -> Path:
    """A folder with the configuration of a tiny model; its weights come from `--load-format dummy`."""
    from transformers import AutoConfig

    architecture, own = FAMILIES[family]
    config = AutoConfig.for_model(family, **{**SMALL, **own, **more}).to_dict()
    folder.mkdir(parents=True, exist_ok=True)
    config |= {"architectures": [architecture], **UNTOLD.get(family, {})}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def covered(path: Path) -> list[int] | str:
    import torch
    from sglang.srt.configs.load_config import LoadConfig
    from sglang.srt.configs.model_config import ModelConfig
    from sglang.srt.model_loader.loader import _initialize_model
    from sglang.srt.runtime_context import SpawnRanks, publish
    from sglang.srt.server_args import ServerArgs

    from sfi_sglang.attention.layers import Unsupported, covered_layers

    backend = "torch_native" if path.name == "lfm2" else "triton"  # each takes some backends only
    flags = {"attention_backend": backend, "mamba_radix_cache_strategy": "no_buffer", "disable_overlap_schedule": True}
    arguments = ServerArgs(model_path=str(path), device="cpu", skip_tokenizer_init=True, **flags)
    publish(arguments, role="scheduler", ranks=SpawnRanks(world_rank=0))
    groups()
    config = ModelConfig.from_server_args(arguments)
    with torch.device("meta"):
        model = _initialize_model(config, LoadConfig())
    try:
        return list(covered_layers(model).ids)
    except Unsupported as reason:
        return str(reason)


def groups() -> None:
    from sglang.srt.distributed import parallel_state

    if not parallel_state.model_parallel_is_initialized():
        store = f"file://{tempfile.mktemp()}"
        parallel_state.init_distributed_environment(1, 0, distributed_init_method=store, local_rank=0, backend="gloo")
        parallel_state.initialize_model_parallel()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        paths = {family: write_config(family, Path(folder) / family) for family in FAMILIES}
        json.dump({family: covered(path) for family, path in paths.items()}, sys.stdout)
