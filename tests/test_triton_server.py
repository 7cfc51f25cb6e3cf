"""The Triton backend in a real server, under the interpreter, beside the torch backend.

Two layers of SmolLM2 in float32, so that the interpreter is done in half a minute and rounding decides no token.
"""

import pytest
from conftest import GPU, generate, probe_env, story

from sfi_sglang.server import running_server

pytestmark = [pytest.mark.server, pytest.mark.skipif(GPU, reason="interprets the kernels on a CPU")]

TWO_LAYERS = ["--json-model-override-args", '{"num_hidden_layers": 2}', "--dtype", "float32"]
TRITON = ["--attention-backend", "torch_native", "--decode-attention-backend", "sfi", "--context-length", "2048"]
TRITON += ["--prefill-attention-backend", "torch_native", "--chunked-prefill-size", "160"]
SFI = {"budget": 64, "recent": 32, "min_gap": 2, "max_segment": 4}
TURN = story(16)
REQUESTS = [
    (TURN, SFI),
    (TURN + " Then", None),
    (TURN + " And", {**SFI, "selector": "paper"}),
    (TURN + " So", {**SFI, "policy": "never"}),
]


def serve(executor: str, flags: list[str], log) -> list[dict]:
    with running_server(flags=TWO_LAYERS + flags, env=probe_env(SFI_EXECUTOR=executor), log=log) as url:
        texts, options = zip(*REQUESTS, strict=True)
        replies = generate(url, list(texts), list(options), tokens=14)
        for carry in ("inherit", "merge"):
            replies.append(generate(url, TURN + replies[0]["text"], {**SFI, "carry": carry}, tokens=6))
        return replies


def test_triton_and_torch_agree(tmp_path):
    """Dense, fast and slow rows in one batch, chunked prompts, and the memory carried into a next turn."""
    torch_replies = serve("torch", ["--chunked-prefill-size", "160"], tmp_path / "torch.log")
    triton_replies = serve("triton", TRITON, tmp_path / "triton.log")
    for expected, reply in zip(torch_replies, triton_replies, strict=True):
        assert reply["text"] == expected["text"]
        info, other = (r["meta_info"].get("sfi") for r in (reply, expected))
        assert (info is None) == (other is None)
        for key in ("slow_steps", "fast_steps", "inherited_tokens") if info else ():
            assert info[key] == other[key]
    assert torch_replies[-1]["meta_info"]["sfi"]["inherited_tokens"] > 0
