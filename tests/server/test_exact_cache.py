"""The shared prefix cache stays exact: what an SFI request leaves there is what a dense pass would have left.

Four layers of SmolLM2 in float32: fast steps are approximate from the second layer on, rounding is small.
"""

from pathlib import Path

import pytest
import requests
import torch

from sfi_sglang.serving.server import running_server
from tests.helpers import flush, generate, probe_env, story

FLAGS = ["--json-model-override-args", '{"num_hidden_layers": 4}', "--dtype", "float32", "--context-length", "4096"]
SFI = {"budget": 64, "recent": 32, "min_gap": 4, "max_segment": 12}
PROMPT = story(60)
ROUNDING = 2e-3  # of K and V; approximate ones are off by more than 0.1


@pytest.fixture(scope="module", params=[1, 16])
def exact(request, tmp_path_factory):
    """A server with chunked prefill and pages of 1 or 16 tokens, and the folder where it writes K and V."""
    folder = tmp_path_factory.mktemp(f"kv{request.param}")
    flags = [*FLAGS, "--chunked-prefill-size", "512", "--page-size", str(request.param), "--max-total-tokens", "4096"]
    env = probe_env(traced=request.param == 1, PROBE_KV=str(folder))
    with running_server(flags=flags, log=folder.with_suffix(".log"), env=env) as url:
        yield url, folder, request.param


def kept(folder: Path) -> dict:
    """What the last finished request left."""
    return torch.load(max(folder.iterdir()))


def ids_of(url: str, text: str) -> list[int]:
    return requests.post(f"{url}/tokenize", json={"prompt": text}, timeout=60).json()["tokens"]


def difference(one: dict, other: dict) -> float:
    """Largest difference of K and V of the tokens that both have."""
    count = min(len(one["ids"]), len(other["ids"]))
    assert one["ids"][:count] == other["ids"][:count]
    pairs = [pair for layers in zip(one["kv"], other["kv"], strict=True) for pair in zip(*layers, strict=True)]
    return max(float((mine[:count] - its[:count]).abs().max()) for mine, its in pairs)


@pytest.mark.parametrize("repair", [True, False])
def test_kept_keys_and_values_are_those_of_a_dense_prefill(exact, repair):
    url, folder, _ = exact
    prompt = ids_of(url, PROMPT)
    flush(url)
    reply = generate(url, prompt, {**SFI, "repair": repair}, tokens=60)
    info = reply["meta_info"]["sfi"]
    assert info["fast_steps"] > 40
    sparse = kept(folder)
    if repair:
        assert len(sparse["ids"]) > len(prompt) + 36  # up to the last refresh
        assert 0.2 < info["agreement"] <= 1 and info["checked_tokens"] > 30
    else:
        assert len(sparse["ids"]) == len(prompt)  # the first step was a fast one
        assert info["agreement"] is None and info["checked_tokens"] == 0
    flush(url)
    generate(url, prompt + reply["output_ids"], None, tokens=1)
    assert difference(sparse, kept(folder)) < ROUNDING


def logprobs(url: str, ids: list[int]) -> list[float]:
    """Of the last 200 tokens of a prompt, and of the one after it."""
    body = {"input_ids": ids, "sampling_params": {"temperature": 0, "max_new_tokens": 1}, "return_logprob": True}
    reply = requests.post(f"{url}/generate", json={**body, "logprob_start_len": len(ids) - 20}, timeout=120).json()
    meta = reply["meta_info"]
    return [entry[0] for entry in (*meta["input_token_logprobs"][1:], *meta["output_token_logprobs"])]


@pytest.mark.parametrize("repair", [True, False])
def test_a_dense_turn_after_an_sfi_turn_answers_like_a_cold_server(exact, repair):
    url, _, page = exact
    flush(url)
    prompt = ids_of(url, PROMPT)
    reply = generate(url, prompt, {**SFI, "repair": repair}, tokens=60)
    history = prompt + reply["output_ids"] + ids_of(url, " Then he closed the book and walked home along the quay.")
    cached = generate(url, history, None, tokens=1)["meta_info"]["cached_tokens"]
    assert cached >= len(prompt) // page * page
    flush(url)
    reply = generate(url, prompt, {**SFI, "repair": repair}, tokens=60)
    warm = logprobs(url, history)
    flush(url)
    assert warm == pytest.approx(logprobs(url, history), abs=2e-3)


def test_an_aborted_request_and_a_full_pool_leave_nothing_approximate(exact):
    """Four requests of 1000 tokens and 150 more each do not fit into the pool together."""
    url, _, _ = exact
    flush(url)
    prompt = ids_of(url, PROMPT)
    params = {"max_new_tokens": 400, "ignore_eos": True, "temperature": 0, "custom_params": {"sfi": SFI}}
    body = {"input_ids": prompt, "stream": True, "sampling_params": params}
    with requests.post(f"{url}/generate", json=body, stream=True, timeout=120) as stream:
        for _, line in zip(range(40), stream.iter_lines(), strict=False):
            assert b"error" not in line
    starts = [[*prompt[i * 15 :], *prompt[: i * 15]] for i in range(4)]
    replies = generate(url, starts, [SFI] * 4, tokens=150)
    assert all(reply["meta_info"]["completion_tokens"] == 150 for reply in replies)
    history = starts[0] + replies[0]["output_ids"][:100]
    warm = logprobs(url, history)
    flush(url)
    assert warm == pytest.approx(logprobs(url, history), abs=2e-3)
