"""What the real server refuses: a status of 400 whose message begins with the field, at every door."""

import openai
import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.malformed import DOORS, besiege
from sfi_sglang.api.options import parse_sfi
from tests.helpers import generate, story

pytestmark = pytest.mark.server

SMALL = {"budget": 64, "recent": 64, "min_gap": 4, "max_segment": 16}
LONG = story(60)  # about 1000 tokens

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
        refusal = None
        try:
            parse_sfi(value)
        except ValueError as error:
            refusal = str(error)
        bodies = {
            "/generate": {"text": "Hi", "sampling_params": {"max_new_tokens": 1, "custom_params": {"sfi": value}}},
            "/v1/chat/completions": {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1, "sfi": value},
            "/v1/completions": {"model": "m", "prompt": "Hi", "max_tokens": 1, "sfi": value},
        }
        reply = session.post(server + door, json=bodies[door], timeout=60)
        assert reply.status_code == (400 if refusal else 200), reply.text
        if refusal and door == "/generate":
            assert reply.json()["error"] == refusal
        elif refusal:
            assert reply.json()["message"] == refusal and refusal.startswith(f"{reply.json()['param']}: ")

    knock()
    assert generate(server, LONG, SMALL, tokens=8)["meta_info"]["sfi"]["fast_steps"] > 0


def test_300_malformed_requests_at_all_doors(server):
    outcome = besiege(server, 300)
    assert not outcome.failures
    assert outcome.sent == 300 and outcome.controls == 3 and outcome.statuses.keys() == DOORS.keys()
    assert all(400 in counts for counts in outcome.statuses.values())


@pytest.mark.parametrize("stream", [False, True])
def test_the_openai_client_learns_the_field(client, stream):
    wrong = {
        "sfi.budgt": ({"budgt": 512}, "did you mean budget?"),
        "sfi.policy": (
            {"policy": "foo"},
            'expected one of sentence, structural, periodic, random, drift, never, got "foo"',
        ),
        "sfi.selector.span": ({"selector": {"span": 1}}, "expected one of 0, 8, 16, 32, 64, got 1"),
        "sfi": ("yes", 'got "yes"'),
    }
    for param, (sfi, words) in wrong.items():
        with pytest.raises(openai.BadRequestError, match="sfi") as chat:
            messages = [{"role": "user", "content": "Hi"}]
            client.chat.completions.create(model="m", messages=messages, stream=stream, extra_body={"sfi": sfi})
        with pytest.raises(openai.BadRequestError, match="sfi") as completion:
            client.completions.create(model="m", prompt="Hi", stream=stream, extra_body={"sfi": sfi})
        for refused in (chat.value, completion.value):
            assert refused.param == param and words in refused.body["message"]
    with pytest.raises(openai.BadRequestError) as other:
        client.completions.create(model="m", prompt="Hi", temperature=-1)
    assert other.value.param is None, "errors that are not ours stay as they are"


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


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ({"text": ""}, "the prompt is empty"),
        ({"text": ["", "Hi"]}, "the prompt is empty"),
        ({"input_ids": [[]]}, "empty"),
        ({"input_ids": [1, 10**6]}, "outside of the vocabulary"),
        ({"input_ids": [[1, 2], [-1]]}, "outside of the vocabulary"),
    ],
)
def test_a_prompt_that_would_end_the_server_is_refused(server, prompt, words):
    body = {**prompt, "sampling_params": {"max_new_tokens": 2, "custom_params": {"sfi": True}}}
    reply = requests.post(f"{server}/generate", json=body, timeout=60)
    assert reply.status_code == 400 and words in reply.text
    if "text" in prompt:
        body = {"model": "m", "prompt": prompt["text"], "max_tokens": 2, "sfi": True}
        assert requests.post(f"{server}/v1/completions", json=body, timeout=60).status_code == 400
    assert generate(server, "Hi", True, tokens=2)["text"]


def test_a_session_is_refused(server):
    params = {"max_new_tokens": 1, "custom_params": {"sfi": True}}
    body = {"text": "Hi", "sampling_params": params, "session_params": {"id": "s"}}
    reply = requests.post(f"{server}/generate", json=body, timeout=60)
    assert reply.status_code == 400 and "sfi: sessions are not supported" in reply.text


def test_exact_needs_a_server_that_was_started_for_it(server):
    body = {"model": "m", "prompt": "Hi", "max_tokens": 1, "temperature": 0, "sfi": {"exact": True}}
    reply = requests.post(f"{server}/v1/completions", json=body, timeout=60)
    assert reply.status_code == 400 and reply.json()["param"] == "sfi.exact"
    assert "start the server with --speculative-algorithm SFI" in reply.text
    body = {
        "text": "Hi",
        "stream": True,
        "sampling_params": {"temperature": 0, "custom_params": {"sfi": {"exact": True}}},
    }
    streamed = requests.post(f"{server}/generate", json=body, timeout=60)
    assert streamed.status_code == 400 and "sfi.exact: start the server" in streamed.text
