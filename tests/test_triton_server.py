"""The Triton backend in a real server, under the interpreter, beside the torch backend.

Two layers of SmolLM2 in float32, so that the interpreter is done in half a minute and rounding decides no token.
"""

import pytest
from conftest import GPU, generate, probe_env, story

from sfi_sglang.server import running_server

pytestmark = [pytest.mark.server, pytest.mark.skipif(GPU, reason="interprets the kernels on a CPU")]

FLAGS = [
    "--json-model-override-args",
    '{"num_hidden_layers": 2}',
    "--dtype",
    "float32",
    "--chunked-prefill-size",
    "128",
]
FLAGS += ["--context-length", "2048"]
SFI = {"budget": 64, "recent": 32, "min_gap": 2, "max_segment": 4}
TURN = story(10)
REQUESTS = [
    (TURN, SFI),
    (TURN + " Then", None),
    (TURN + " And", {**SFI, "selector": "paper"}),
    (TURN + " So", {**SFI, "policy": "never"}),
]


def serve(executor: str, log) -> list[dict]:
    with running_server(flags=[*FLAGS, "--sfi-executor", executor], env=probe_env(), log=log) as url:
        texts, options = zip(*REQUESTS, strict=True)
        replies = generate(url, list(texts), list(options), tokens=10)
        for carry in ("inherit", "merge"):
            replies.append(generate(url, TURN + replies[0]["text"], {**SFI, "carry": carry}, tokens=6))
        return replies


def test_triton_and_torch_agree(tmp_path):
    """Dense, fast and slow rows in one batch, chunked prompts, and the memory carried into a next turn."""
    torch_replies = serve("torch", tmp_path / "torch.log")
    triton_replies = serve("triton", tmp_path / "triton.log")
    for expected, reply in zip(torch_replies, triton_replies, strict=True):
        assert reply["text"] == expected["text"]
        info, other = (r["meta_info"].get("sfi") for r in (reply, expected))
        assert (info is None) == (other is None)
        for key in ("slow_steps", "fast_steps", "inherited_tokens") if info else ():
            assert info[key] == other[key]
    assert torch_replies[-1]["meta_info"]["sfi"]["inherited_tokens"] > 0
