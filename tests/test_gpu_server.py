"""Every executor in a real server on a GPU, under CUDA graphs: the torch reference's greedy text, up to ties."""

from functools import cache

import pytest
import requests
from conftest import story

from sfi_sglang.server import running_server

pytestmark = [pytest.mark.gpu, pytest.mark.server, pytest.mark.timeout(900)]

FLAGS = ["--sampling-backend", "pytorch", "--max-running-requests", "8", "--mem-fraction-static", "0.4"]
GRAPHS = ["--prefill-attention-backend", "triton", "--cuda-graph-max-bs-decode", "8"]
SERVERS = {
    "torch": ["--dtype", "bfloat16"],
    "triton": [*GRAPHS, "--dtype", "bfloat16"],
    "flashinfer": [*GRAPHS, "--dtype", "bfloat16"],
    "triton, float16, pages of 16": [*GRAPHS, "--dtype", "float16", "--page-size", "16"],
}
TOKENS = 48
TIE = 0.2  # nats between the two tokens where the texts part
SFI = {"budget": 256, "recent": 64}
OPTIONS = [
    None, SFI, {**SFI, "selector": "paper"}, {**SFI, "policy": "never"}, {**SFI, "policy": "structural", "min_gap": 4},
    {**SFI, "policy": "periodic", "max_segment": 16}, {**SFI, "budget": 1000},
]  # fmt: skip
PROMPTS = [story(80 + 9 * i, start=100 * i) + " The harbor master" for i in range(len(OPTIONS))]


def ask(url: str, prompts: list[str], options: list) -> list[dict]:
    """One batch, greedy."""
    fixed = {"temperature": 0, "max_new_tokens": TOKENS, "ignore_eos": True}
    body = {
        "text": prompts,
        "sampling_params": [{**fixed, "custom_params": {"sfi": sfi}} for sfi in options],
        "return_logprob": True,
        "top_logprobs_num": 5,
    }
    reply = requests.post(f"{url}/generate", json=body, timeout=600)
    reply.raise_for_status()
    return reply.json()


@cache
def replies(name: str, log) -> list[dict]:
    """Batches of seven rows (padded to eight), of three, and the memory carried into a next turn."""
    flags = [*FLAGS, *SERVERS[name], "--sfi-executor", name.split(",")[0]]
    with running_server(flags=flags, log=log / f"{name[:10]}.log") as url:
        out = ask(url, PROMPTS, OPTIONS) + ask(url, PROMPTS[:3], OPTIONS[1:4])
        following = PROMPTS[1] + " wrote again. " + story(8, start=900)
        for carry in ("inherit", "merge"):
            out += ask(url, [following], [{**SFI, "carry": carry}])
        return out


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    return tmp_path_factory.mktemp("servers")


@pytest.mark.parametrize("name", list(SERVERS)[1:])
def test_executors_agree(name, log):
    texts_alike = 0
    for expected, reply in zip(replies("torch", log), replies(name, log), strict=True):
        info, other = (r["meta_info"].get("sfi") for r in (expected, reply))
        assert (info is None) == (other is None)
        ours, theirs = ([token for _, token, _ in r["meta_info"]["output_token_logprobs"]] for r in (expected, reply))
        parted = next((i for i, pair in enumerate(zip(ours, theirs, strict=True)) if pair[0] != pair[1]), None)
        if parted is None:
            texts_alike += 1
            if info:
                assert info["slow_steps"] == other["slow_steps"] and info["fast_steps"] == other["fast_steps"]
            continue
        choices = {token: logprob for logprob, token, _ in expected["meta_info"]["output_top_logprobs"][parted]}
        gap = choices[ours[parted]] - choices.get(theirs[parted], float("-inf"))
        assert gap < TIE, f"at token {parted} of {reply['text']!r}"
    print(f"{name}: {texts_alike} of {len(replies(name, log))} texts are the torch reference's to the last token")
    assert texts_alike > 0
