"""Requests that servers of different kinds have to answer alike.

Two layers of SmolLM2 in float32, so that the interpreter is done in half a minute and rounding decides no token.
"""

import pytest

from sfi_sglang.api.options import EXTEND_TAIL
from tests.helpers import generate, ids_of, story

FLAGS = ["--json-model-override-args", '{"num_hidden_layers": 2}', "--dtype", "float32"]
FLAGS += ["--chunked-prefill-size", "128", "--context-length", "2048"]
FLAGS += ["--max-running-requests", "32"]  # rows for repairs
SFI = {"budget": 64, "recent": 32, "min_gap": 2, "max_segment": 4}
TURN = story(10)
PAPER = TURN + " And"
REQUESTS = {
    "dense": (TURN + " Then", None),
    "paper": (PAPER, {**SFI, "selector": "paper"}),
    "never": (TURN + " So", {**SFI, "policy": "never"}),
    "span": (TURN, {**SFI, "carry": "merge"}),  # nothing to merge yet; the carried turns find what it leaves
}
WITHOUT_EXCLUSION = "agreement+prior+nms"  # the preset `paper` on several tensor-parallel ranks
MORE = {WITHOUT_EXCLUSION: (PAPER, {**SFI, "selector": WITHOUT_EXCLUSION})}
SENTENCES = r"((Yes|No)\.)+"  # nothing but their ends makes a step of a carried turn slow


def answers(url: str, more: dict | None = None) -> dict[str, dict]:
    """Dense, fast and slow rows in one batch, chunked prompts, and the memory carried into a next turn."""
    asked = {**(more or {}), **REQUESTS}
    texts, options = zip(*asked.values(), strict=True)
    replies = dict(zip(asked, generate(url, list(texts), list(options), tokens=10, logprobs=True), strict=True))
    text = TURN + replies["span"]["text"]
    for carry in ("inherit", "merge"):
        sfi = {**SFI, "carry": carry, "max_segment": 64}
        replies[carry] = generate(url, text, sfi, tokens=6, logprobs=True, regex=SENTENCES)
        info = replies[carry]["meta_info"]["sfi"]
        assert info["inherited_tokens"] > 0 and info["slow_steps"] > 0
    return {**replies, **sparse_turns(url)}


def sparse_turns(url: str) -> dict[str, dict]:
    """Second turns whose new tokens see a part of the first, alone and beside a dense prompt."""
    sfi, found = {**SFI, "budget": 32, "recent": 16, "extend": "sparse"}, {}
    for name, ways in (("sparse", [sfi]), ("beside", [sfi, None])):
        first, second = (ids_of(url, story(24, 100 * len(ways) + day)) for day in (0, 50))
        found[f"{name}, first turn"] = generate(url, first[:336], sfi, tokens=1, logprobs=True)
        prompts = [first[:336] + second[:150], second[:60]][: len(ways)]
        found[name] = generate(url, prompts, ways, tokens=4, logprobs=True)[0]
        info = found[name]["meta_info"]
        assert info["sfi"]["sparse_extend_tokens"] == 150 - EXTEND_TAIL, info
    return found


def assert_same(reply: dict, expected: dict) -> None:
    """Text, counts, and the probabilities: they show a selection that differs but changes no token."""
    assert reply["text"] == expected["text"]
    info, other = (r["meta_info"].get("sfi", {}) for r in (reply, expected))
    for key in ("slow_steps", "fast_steps", "prompt_tokens", "inherited_tokens", "sparse_extend_tokens"):
        assert info.get(key) == other.get(key)
    assert logprobs(reply) == pytest.approx(logprobs(expected), abs=1e-3)


def logprobs(reply: dict) -> list[float]:
    return [logprob for logprob, *_ in reply["meta_info"]["output_token_logprobs"]]
