"""End to end on the real server: SGLang's runtime, the real model, real HTTP, the real openai client."""

import json

import pytest
import requests
import sglang as sgl
from hypothesis import given, settings
from hypothesis import strategies as st

import sfi_sglang.frontend  # noqa: F401  (adds sfi= to sgl.gen)
from sfi_sglang.api.options import parse_sfi
from sfi_sglang.evals import needle
from tests.helpers import CHUNK, flush, generate, story

pytestmark = pytest.mark.server

SMALL = {"budget": 64, "recent": 64, "min_gap": 4, "max_segment": 16}
QUESTION = "\nQuestion: What did the harbor master write?\nAnswer:"
LONG = story(60) + QUESTION  # about 1000 tokens
PROMPTS = [story(4 + i, start=7 * i) + QUESTION for i in range(20)]


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


def test_two_runs_agree_cold_and_warm_and_through_prefill_chunks(server):
    prompt = story(160) + QUESTION
    flush(server)
    cold, warm = (generate(server, prompt, SMALL, tokens=48) for _ in range(2))
    assert cold["meta_info"]["prompt_tokens"] > CHUNK, "the prompt must take more than one prefill pass"
    assert warm["meta_info"]["cached_tokens"] == cold["meta_info"]["prompt_tokens"] - 16
    assert cold["text"] == warm["text"]
    assert cold["meta_info"]["sfi"] == warm["meta_info"]["sfi"]


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


def logprobs(reply) -> list[float]:
    return [entry[0] for entry in reply["meta_info"]["output_token_logprobs"]]


def test_dense_and_sfi_share_a_batch(server):
    prompts = [LONG, story(50, 100) + QUESTION, story(55, 300) + QUESTION, story(45, 500) + QUESTION]
    for prompt in prompts:
        generate(server, prompt, None, tokens=1)  # same cached prefix for both batches
    alone = generate(server, prompts, [None] * 4, tokens=24)
    params = {"temperature": 0, "max_new_tokens": 24, "ignore_eos": True}
    mixed = requests.post(
        f"{server}/generate",
        json={
            "text": prompts,
            "return_logprob": True,
            "sampling_params": [params | {"custom_params": {"sfi": s}} for s in (None, SMALL, None, SMALL)],
        },
    ).json()
    scored = requests.post(
        f"{server}/generate", json={"text": prompts, "return_logprob": True, "sampling_params": params}
    ).json()
    for i in (0, 2):
        assert mixed[i]["text"] == alone[i]["text"]
        assert logprobs(mixed[i]) == pytest.approx(logprobs(scored[i]), abs=0.1)
        assert "sfi" not in mixed[i]["meta_info"]
    for i in (1, 3):
        assert mixed[i]["meta_info"]["sfi"]["fast_steps"] > 0


def test_needle_is_found_by_sfi_and_lost_by_the_window(server):
    from sfi_sglang.client.token_count import of_served_model

    trials = needle.make_trials(2000, 3, seed=1, count_tokens=of_served_model(server))
    scores = {s.variant: s.found for s in needle.evaluate(server, trials, 2000, needle.variants(256))}
    assert scores["dense"] >= 2
    assert scores["span 256"] >= scores["dense"] - 1
    assert scores["sink+recent 512"] < scores["dense"]


def test_openai_chat_completions_and_streams(client):
    messages = [{"role": "user", "content": LONG}]
    extra = {"sfi": SMALL, "return_meta_info": True}
    chat = client.chat.completions.create(model="m", messages=messages, max_tokens=24, temperature=0, extra_body=extra)
    assert chat.choices[0].model_extra["meta_info"]["sfi"]["fast_steps"] > 0
    stream = client.chat.completions.create(
        model="m", messages=messages, max_tokens=24, temperature=0, stream=True, extra_body={"sfi": SMALL}
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
    assert text == chat.choices[0].message.content
    dense = client.completions.create(model="m", prompt=LONG, max_tokens=8, temperature=0)
    sparse = client.completions.create(
        model="m", prompt=LONG, max_tokens=8, temperature=0, extra_body={"sfi": {"budget": 4096}}
    )
    assert dense.choices[0].text == sparse.choices[0].text
    chunks = client.completions.create(
        model="m", prompt=LONG, max_tokens=8, temperature=0, stream=True, extra_body={"sfi": {"budget": 4096}}
    )
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == dense.choices[0].text


def test_openai_streams_report_beside_their_usage(client):
    wanted = {"stream": True, "stream_options": {"include_usage": True}, "max_tokens": 24, "temperature": 0}
    messages = [{"role": "user", "content": LONG}]
    for sfi in (SMALL, None):
        extra = {"sfi": sfi, "ignore_eos": True}
        chat = list(client.chat.completions.create(model="m", messages=messages, extra_body=extra, **wanted))
        text = list(client.completions.create(model="m", prompt=LONG, extra_body=extra, **wanted))
        for chunks in (chat, text):
            assert chunks[-1].usage.completion_tokens == 24
            report = chunks[-1].model_extra.get("sfi")
            assert report["slow_steps"] + report["fast_steps"] == 23 if sfi else report is None
            assert not any("sfi" in chunk.model_extra for chunk in chunks[:-1])


def test_generate_stream_ends_with_the_counts(server):
    params = {"temperature": 0, "max_new_tokens": 8, "ignore_eos": True, "custom_params": {"sfi": SMALL}}
    body = {"text": LONG, "stream": True, "sampling_params": params}
    with requests.post(f"{server}/generate", json=body, stream=True) as reply:
        events = [json.loads(line[6:]) for line in reply.iter_lines() if line.startswith(b"data: {")]
    assert events[-1]["meta_info"]["sfi"]["fast_steps"] > 0
    assert "sfi" not in events[0]["meta_info"]


@sgl.function
def two_answers(s, text, first):
    s += text + sgl.gen("first", max_tokens=12, ignore_eos=True, sfi=first)
    s += "\nAgain:" + sgl.gen("second", max_tokens=12, ignore_eos=True)


def test_frontend_language(server):
    backend = sgl.RuntimeEndpoint(server)
    state = two_answers.run(text=LONG, first=SMALL, temperature=0, backend=backend)
    assert state.get_meta_info("first")["sfi"]["fast_steps"] > 0
    assert "sfi" not in state.get_meta_info("second")


@sgl.function
def one_answer(s, text):
    s += text + sgl.gen("answer", max_tokens=12, ignore_eos=True)


def test_frontend_program_run_and_batch(server):
    backend = sgl.RuntimeEndpoint(server)
    state = one_answer.run(text=LONG, temperature=0, backend=backend, sfi=SMALL)
    assert state.get_meta_info("answer")["sfi"]["fast_steps"] > 0
    batch = one_answer.run_batch([{"text": LONG}, {"text": story(30)}], temperature=0, backend=backend, sfi=SMALL)
    assert all(state.get_meta_info("answer")["sfi"]["fast_steps"] > 0 for state in batch)
    assert "sfi" not in one_answer.run(text=LONG, temperature=0, backend=backend).get_meta_info("answer")
    with pytest.raises(ValueError, match=r"sfi\.budget"):
        one_answer.run(text=LONG, backend=backend, sfi={"budget": 0})
    with pytest.raises(ValueError, match="choices"):
        sgl.gen("x", choices=["a", "b"], sfi=True)


json_value = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**6), 10**6)
    | st.floats(allow_nan=False, allow_infinity=False, width=32)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=4,
)
fields = st.sampled_from(["budget", "sink", "recent", "min_gap", "max_segment", "policy", "selector", "rid", ""])
malformed = json_value | st.dictionaries(fields, json_value, max_size=4)


def test_200_malformed_values_are_refused_or_meant(server):
    """Every one a 400 that names `sfi` or accepted as the schema says; never a dead server."""
    session = requests.Session()

    @settings(max_examples=200, database=None)
    @given(value=malformed, door=st.sampled_from(["/generate", "/v1/chat/completions", "/v1/completions"]))
    def knock(value, door):
        try:
            parse_sfi(value)
            expected = 200
        except ValueError:
            expected = 400
        bodies = {
            "/generate": {"text": "Hi", "sampling_params": {"max_new_tokens": 1, "custom_params": {"sfi": value}}},
            "/v1/chat/completions": {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1, "sfi": value},
            "/v1/completions": {"model": "m", "prompt": "Hi", "max_tokens": 1, "sfi": value},
        }
        reply = session.post(server + door, json=bodies[door], timeout=60)
        assert reply.status_code == expected, reply.text
        assert expected == 200 or "sfi" in reply.text

    knock()
    assert generate(server, LONG, SMALL, tokens=8)["meta_info"]["sfi"]["fast_steps"] > 0


def test_other_refusals(server):
    def post(door, **body):
        return requests.post(server + door, json=body, timeout=60)

    both = post("/v1/completions", model="m", prompt="Hi", max_tokens=1, sfi=True, custom_params={"sfi": True})
    assert both.status_code == 400 and "both" in both.text
    streamed = post("/generate", text="Hi", stream=True, sampling_params={"custom_params": {"sfi": {"sink": -1}}})
    assert streamed.status_code == 400 and "sfi.sink" in streamed.text
    batch = [{"custom_params": {"sfi": True}}, {"custom_params": {"sfi": {"budget": "x"}}}]
    listed = post("/generate", text=["Hi", "Ho"], sampling_params=batch)
    assert listed.status_code == 400 and "sfi.budget" in listed.text


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
    info = generate(server, LONG, SMALL, tokens=24)["meta_info"]["sfi"]
    grown = {name: value - before[name] for name, value in read().items()}
    assert grown["sglang:sfi_requests_total"] == 1
    assert grown["sglang:sfi_slow_steps_total"] == info["slow_steps"]
    assert grown["sglang:sfi_fast_steps_total"] == info["fast_steps"]
