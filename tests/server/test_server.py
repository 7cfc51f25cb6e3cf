"""End to end on the real server: SGLang's runtime, the real model, real HTTP, the real openai client."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from sfi_sglang.client.token_count import of_served_model
from sfi_sglang.evals.items import answer
from sfi_sglang.evals.retrieval import Retrieval
from sfi_sglang.evals.variants import Sight, variants
from tests.helpers import flush, generate, story

pytestmark = pytest.mark.server

SMALL = {"budget": 64, "recent": 64, "min_gap": 4, "max_segment": 16}
QUESTION = "\nQuestion: What did the harbor master write?\nAnswer:"
LONG = story(60) + QUESTION  # about 1000 tokens
PROMPTS = [story(4 + i, start=7 * i) + QUESTION for i in range(20)]


def logprobs(reply) -> list[float]:
    return [entry[0] for entry in reply["meta_info"]["output_token_logprobs"]]


def test_a_budget_above_the_context_is_dense_token_for_token(server):
    ids = requests.post(f"{server}/tokenize", json={"prompt": PROMPTS}, timeout=60).json()["tokens"]
    assert len(ids) == 20
    for batch in (ids, ids[-1:]):
        texts = []
        for sfi in (None, {"budget": 4096}):
            flush(server)
            replies = generate(server, batch, [sfi] * len(batch), tokens=64)
            assert all(("sfi" in reply["meta_info"]) == bool(sfi) for reply in replies)
            texts.append([reply["output_ids"] for reply in replies])
        assert texts[0] == texts[1]


@pytest.mark.parametrize("sfi", [{"budget": 4096}, {"policy": "never", "recent": 2048}], ids=["span", "never"])
def test_a_budget_above_a_cached_context_is_dense_to_the_last_digit(server, sfi):
    """Also where the prompt is cached: a prefill cut differently rounds differently, and a greedy text may turn."""
    prompt = story(110) + QUESTION
    generate(server, prompt, None, tokens=1)
    dense, sparse = (generate(server, prompt, value, tokens=48, logprobs=True) for value in (None, sfi))
    assert dense["meta_info"]["cached_tokens"] == dense["meta_info"]["prompt_tokens"] - 1
    assert sparse["meta_info"]["cached_tokens"] == dense["meta_info"]["cached_tokens"]
    assert sparse["meta_info"]["sfi"]["slow_steps"] == 47
    assert sparse["output_ids"] == dense["output_ids"] and logprobs(sparse) == logprobs(dense)


def test_meta_info_counts_every_step(server):
    reply = generate(server, LONG, SMALL, tokens=40)
    info = reply["meta_info"]["sfi"]
    assert info["slow_steps"] + info["fast_steps"] == 39  # the first token comes from the prefill
    assert 39 // 16 <= info["slow_steps"] <= 39 // 4
    assert info["prompt_tokens"] == reply["meta_info"]["prompt_tokens"]
    assert info["budget"] == 64 and info["inherited_tokens"] == 0
    assert 0.2 < info["coverage"] <= 1.0


def test_dense_requests_carry_no_sfi_info(server):
    assert "sfi" not in generate(server, LONG, None, tokens=4)["meta_info"]
    assert "sfi" not in generate(server, LONG, False, tokens=4)["meta_info"]


def test_a_request_that_outgrows_its_budget_starts_to_select(server):
    prompt = story(4)
    tokens = generate(server, prompt, None, tokens=1)["meta_info"]["prompt_tokens"]
    sfi = {"budget": 16, "sink": 4, "recent": tokens, "max_segment": 16}
    info = generate(server, prompt, sfi, tokens=60)["meta_info"]["sfi"]
    assert info["fast_steps"] > 20 and info["slow_steps"] >= 16


def test_policy_never_takes_no_slow_step(server):
    info = generate(server, LONG, {"recent": 128, "policy": "never"}, tokens=24)["meta_info"]["sfi"]
    assert (info["slow_steps"], info["fast_steps"]) == (0, 23) and info["coverage"] is None


@pytest.mark.parametrize("policy", ["structural", "periodic"])
def test_other_policies(server, policy):
    info = generate(server, LONG, SMALL | {"policy": policy}, tokens=34)["meta_info"]["sfi"]
    assert info["fast_steps"] > 0 and info["slow_steps"] >= 2


def test_a_fact_is_found_by_sfi_and_lost_by_the_window(server):
    task, chosen = Retrieval(), variants(Sight(256, 256))
    made = [
        task.item("single", 2000, depth, seed, of_served_model(server)) for seed, depth in enumerate((0.2, 0.5, 0.8))
    ]
    found = {variant.label: sum(answer(server, task, item, variant).right[0] for item in made) for variant in chosen}
    assert found["dense"] >= 2
    assert found["sfi"] >= found["dense"] - 1
    assert found["sink+recent"] < found["dense"]


def test_generate_stream_ends_with_the_counts(server):
    params = {"temperature": 0, "max_new_tokens": 8, "ignore_eos": True, "custom_params": {"sfi": SMALL}}
    body = {"text": LONG, "stream": True, "sampling_params": params}
    with requests.post(f"{server}/generate", json=body, stream=True) as reply:
        events = [json.loads(line[6:]) for line in reply.iter_lines() if line.startswith(b"data: {")]
    assert events[-1]["meta_info"]["sfi"]["fast_steps"] > 0
    assert "sfi" not in events[0]["meta_info"]


def test_a_dense_beam_search_beside_sfi_is_served(server):
    """Its batch has rows beyond the requests."""
    params = [{"beam_width": 2, "n": 2, "max_new_tokens": 8, "temperature": 0}]
    params.append({"max_new_tokens": 48, "temperature": 0, "ignore_eos": True, "custom_params": {"sfi": SMALL}})
    with ThreadPoolExecutor(2) as pool:
        bodies = [{"text": LONG, "sampling_params": one} for one in params]
        beams, sparse = pool.map(lambda body: requests.post(f"{server}/generate", json=body, timeout=120), bodies)
    assert beams.status_code == sparse.status_code == 200, (beams.text, sparse.text)
    assert sparse.json()["meta_info"]["sfi"]["slow_steps"] + sparse.json()["meta_info"]["sfi"]["fast_steps"] == 47


def test_aborted_requests_leave_the_server_well(server):
    for _ in range(3):
        params = {"max_new_tokens": 400, "ignore_eos": True, "custom_params": {"sfi": SMALL}}
        body = {"text": LONG, "stream": True, "sampling_params": params}
        with requests.post(f"{server}/generate", json=body, stream=True) as reply:
            next(reply.iter_lines())
    assert generate(server, LONG, SMALL, tokens=8)["meta_info"]["sfi"]["fast_steps"] > 0


def test_prometheus_counters(server):
    def read():
        lines = requests.get(f"{server}/metrics", timeout=30).text.splitlines()
        return {line.split()[0]: float(line.split()[1]) for line in lines if line.startswith("sglang:sfi_")}

    generate(server, LONG, SMALL, tokens=8)
    before = read()
    info = generate(server, LONG, {**SMALL, "min_gap": 4, "max_segment": 8}, tokens=24)["meta_info"]["sfi"]
    grown = {name: value - before[name] for name, value in read().items()}
    assert grown["sglang:sfi_requests_total"] == 1
    assert grown["sglang:sfi_slow_steps_total"] == info["slow_steps"]
    assert grown["sglang:sfi_fast_steps_total"] == info["fast_steps"]
    assert grown["sglang:sfi_checked_tokens_total"] == info["checked_tokens"] > 8
    assert grown["sglang:sfi_agreed_tokens_total"] == info["agreed_tokens"] > 0
    assert info["agreement"] == pytest.approx(info["agreed_tokens"] / info["checked_tokens"], abs=1e-4)
