"""The shared prefix cache stays exact: what an SFI request leaves there is what a dense pass would have left.

Four layers of SmolLM2 in float32: fast steps are approximate from the second layer on, rounding is small.
"""

import json
from pathlib import Path

import pytest
import requests
import torch

from sfi_sglang.api.options import EXTEND_TAIL, SFIOptions
from sfi_sglang.client.endpoint import Endpoint
from sfi_sglang.serving.server import running_server
from tests.helpers import flush, generate, ids_of, probe_env, story

FLAGS = ["--json-model-override-args", '{"num_hidden_layers": 4}', "--dtype", "float32", "--context-length", "4096"]
SFI = {"budget": 64, "recent": 32, "min_gap": 4, "max_segment": 12}
PROMPT = story(60)
ROUNDING = 2e-3  # of K and V; approximate ones are off by more than 0.1
CHUNK = 512  # prompt tokens of a prefill pass
RETRACT_EVERY = 24  # passes; a request that runs alone is spared
RETRACTED = "sglang:num_retracted_requests_total"


@pytest.fixture(scope="module", params=[1, 16])
def exact(request, tmp_path_factory):
    """A server with chunked prefill and pages of 1 or 16 tokens, and the folder where it writes K and V."""
    folder = tmp_path_factory.mktemp(f"kv{request.param}")
    flags = [
        *FLAGS,
        "--chunked-prefill-size",
        str(CHUNK),
        "--page-size",
        str(request.param),
        "--max-total-tokens",
        "4096",
    ]
    retract = {"SGLANG_TEST_RETRACT": "1", "SGLANG_TEST_RETRACT_INTERVAL": str(RETRACT_EVERY)}
    env = probe_env(traced=request.param == 1, PROBE_KV=str(folder), **retract)
    with running_server(flags=flags, log=folder.with_suffix(".log"), env=env) as url:
        yield url, folder, request.param


def kept(folder: Path) -> dict:
    """What the last finished request left."""
    return torch.load(max(folder.iterdir()))


def difference(one: dict, other: dict) -> float:
    """Largest difference of K and V of the tokens that both have; printed, so it stands beside a failure."""
    count = min(len(one["ids"]), len(other["ids"]))
    assert one["ids"][:count] == other["ids"][:count]
    pairs = [pair for layers in zip(one["kv"], other["kv"], strict=True) for pair in zip(*layers, strict=True)]
    largest = max(float((mine[:count] - its[:count]).abs().max()) for mine, its in pairs)
    print(f"K and V of {count} tokens differ by up to {largest:.1e}")
    return largest


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


def test_dense_requests_do_not_notice_sfi_in_their_batch(exact):
    """In float32: the pass has other rows, and a product of another shape rounds differently."""
    url, _, _ = exact
    prompts = [ids_of(url, story(count, start)) for count, start in ((20, 0), (17, 100), (18, 300), (15, 500))]
    for prompt in prompts:
        generate(url, prompt, None, tokens=1)  # same cached prefix for both batches
    alone, mixed = (
        generate(url, prompts, options, tokens=24, logprobs=True) for options in ([None] * 4, [None, SFI, None, SFI])
    )
    for i in (0, 2):
        assert mixed[i]["output_ids"] == alone[i]["output_ids"] and "sfi" not in mixed[i]["meta_info"]
        scores = ([entry[0] for entry in reply[i]["meta_info"]["output_token_logprobs"]] for reply in (mixed, alone))
        assert next(scores) == pytest.approx(next(scores), abs=1e-3)
    for i in (1, 3):
        assert mixed[i]["meta_info"]["sfi"]["fast_steps"] > 0


def test_two_runs_agree_cold_and_warm_and_through_prefill_chunks(exact):
    url, _, page = exact
    flush(url)
    cold, warm = (generate(url, PROMPT, SFI, tokens=48) for _ in range(2))
    tokens = cold["meta_info"]["prompt_tokens"]
    assert tokens > CHUNK, "the prompt must take more than one prefill pass"
    assert warm["meta_info"]["cached_tokens"] == (tokens - SFIOptions().queries) // page * page
    assert cold["output_ids"] == warm["output_ids"]
    assert cold["meta_info"]["sfi"] == warm["meta_info"]["sfi"]


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


def test_an_aborted_request_leaves_nothing_approximate(exact):
    url, _, _ = exact
    flush(url)
    prompt = ids_of(url, PROMPT)
    params = {"max_new_tokens": 400, "ignore_eos": True, "temperature": 0, "custom_params": {"sfi": SFI}}
    body = {"input_ids": prompt, "stream": True, "sampling_params": params}
    outputs: list[int] = []
    with requests.post(f"{url}/generate", json=body, stream=True, timeout=120) as stream:
        for line in stream.iter_lines():
            assert b"error" not in line
            if line:
                outputs = json.loads(line.removeprefix(b"data: "))["output_ids"]
            if len(outputs) >= 40:
                break
    history = prompt + outputs
    warm = logprobs(url, history)
    flush(url)
    assert warm == pytest.approx(logprobs(url, history), abs=2e-3)


@pytest.mark.parametrize("repair", [True, False])
def test_a_retracted_request_leaves_nothing_approximate(exact, repair):
    """Three requests fit into the pool together; the server takes one back every RETRACT_EVERY passes."""
    url, folder, _ = exact
    flush(url)
    endpoint, files = Endpoint.connect(url), set(folder.iterdir())
    prompt = ids_of(url, PROMPT)
    prompts = [[*prompt[i * 15 :], *prompt[: i * 15]] for i in range(3)]
    before = endpoint.counters().get(RETRACTED, 0.0)
    replies = generate(url, prompts, [{**SFI, "repair": repair}] * 3, tokens=100)
    assert endpoint.counters()[RETRACTED] - before >= 2
    assert all(reply["meta_info"]["sfi"]["fast_steps"] > 20 for reply in replies)
    kept_now = [torch.load(file) for file in sorted(set(folder.iterdir()) - files)]
    assert len(kept_now) == 3
    histories = [own + reply["output_ids"] for own, reply in zip(prompts, replies, strict=True)]
    assert sum(len(sparse["ids"]) > len(prompt) + 20 for sparse in kept_now) >= 1  # prefilled again, so exact
    for sparse in kept_now:
        flush(url)
        generate(url, next(ids for ids in histories if ids[: len(sparse["ids"])] == sparse["ids"]), None, tokens=1)
        assert difference(sparse, kept(folder)) < ROUNDING


SPARSE = {**SFI, "extend": "sparse"}
TURNS = PROMPT, " Then he read on. " + story(40, 800)


def second_turn(url: str, sfi: dict | None, **first) -> dict:
    """After a turn with the same options."""
    flush(url)
    start, more = (ids_of(url, text) for text in TURNS)
    generate(url, start, sfi, tokens=1, **first)
    return generate(url, start + more, sfi, tokens=8)


def test_sparse_extend_keeps_to_itself(exact):
    url, folder, page = exact
    second = second_turn(url, SPARSE)
    meta, sparse = second["meta_info"], kept(folder)
    cached = len(ids_of(url, TURNS[0])) // page * page
    assert meta["cached_tokens"] == cached
    assert meta["prompt_tokens"] - cached > CHUNK, "the new tokens must take more than one prefill pass"
    assert meta["sfi"]["sparse_extend_tokens"] == meta["prompt_tokens"] - EXTEND_TAIL - cached
    dense = generate(url, ids_of(url, TURNS[0]) + ids_of(url, TURNS[1]), None, tokens=8)
    assert dense["meta_info"]["cached_tokens"] == 0
    assert difference(sparse, kept(folder)) > 0.01
    assert dense["output_ids"] == second_turn(url, None)["output_ids"]


def test_sparse_extend_of_a_prefix_that_is_seen_whole_is_dense(exact):
    url, folder, _ = exact
    second = second_turn(url, {**SPARSE, "budget": 480})
    assert second["meta_info"]["cached_tokens"] > 900 and second["meta_info"]["sfi"]["sparse_extend_tokens"] == 0
    sparse = kept(folder)
    second_turn(url, None)
    assert difference(sparse, kept(folder)) < ROUNDING


def test_sparse_and_dense_prompts_in_one_pass(exact):
    url, _, _ = exact
    ways = [SPARSE, None, SFI, {**SPARSE, "carry": "merge"}]
    firsts = [ids_of(url, story(36, 100 * i)) for i in range(4)]
    longer = [first + ids_of(url, " Then he read on. " + story(6, 700 + 10 * i)) for i, first in enumerate(firsts)]

    def prepare():
        flush(url)
        generate(url, firsts, ways, tokens=1)

    prepare()
    alone = [generate(url, ids, way, tokens=1, logprobs=True) for ids, way in zip(longer, ways, strict=True)]
    prepare()
    together = generate(url, longer, ways, tokens=1, logprobs=True)
    scores = ([reply["meta_info"]["output_token_logprobs"][0][0] for reply in replies] for replies in (together, alone))
    assert next(scores) == pytest.approx(next(scores), abs=1e-3)
    counts = [reply["meta_info"].get("sfi", {}).get("sparse_extend_tokens") for reply in together]
    assert counts[1:3] == [None, 0] and min(counts[0], counts[3]) > 20
    assert together[3]["meta_info"]["sfi"]["inherited_tokens"] > 400


def test_no_key_leads_to_what_sparse_extend_left(exact):
    url, _, _ = exact
    second_turn(url, SPARSE)
    body = {"text": PROMPT, "sampling_params": {"max_new_tokens": 1}}
    key = f"|sfi-extend:{SFIOptions(**SPARSE).namespace}"
    for keys in (key, f"mine{key}"):
        reply = requests.post(f"{url}/generate", json={**body, "extra_key": keys}, timeout=60)
        assert reply.status_code == 400 and "extra_key: " in reply.text
