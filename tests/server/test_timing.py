"""A stream whose request has the header of `sfi_sglang.TIMING_HEADER` ends with what the server spent on it."""

import pytest

from sfi_sglang import TIMING_HEADER
from sfi_sglang.client.openai_stream import chat, make_client
from tests.helpers import flush, story

pytestmark = pytest.mark.server


@pytest.mark.parametrize("sfi", [None, {"budget": 64, "recent": 64}], ids=["dense", "sfi"])
def test_the_servers_time_is_part_of_the_clients(server, sfi):
    request = {"model": "m", "messages": [{"role": "user", "content": story(40)}], "temperature": 0, "max_tokens": 4}
    client = make_client(server)
    flush(server)
    replies = [chat(client, **request, extra_body={"sfi": sfi, "ignore_eos": True}) for _ in range(2)]
    for reply in replies:
        spent = reply.timing["queue"] + reply.timing["prefill"]
        assert (
            min(reply.timing.values()) >= 0 and 0 < spent < reply.arrivals[0] and (reply.sfi is not None) == bool(sfi)
        )
    cold, cached = replies
    assert cached.timing["prefill"] < cold.timing["prefill"]
    assert cold.cached_tokens == 0 and cached.cached_tokens > 0.9 * cached.prompt_tokens


@pytest.mark.parametrize("door", ["chat", "completions"])
@pytest.mark.parametrize("asked", [True, False])
def test_it_is_there_only_if_asked_for(client, door, asked):
    shared = {"model": "m", "max_tokens": 2, "stream": True, "stream_options": {"include_usage": True}}
    shared["extra_headers"] = {TIMING_HEADER: "1"} if asked else {}
    if door == "chat":
        chunks = list(client.chat.completions.create(messages=[{"role": "user", "content": "Hi"}], **shared))
    else:
        chunks = list(client.completions.create(prompt="Hi", **shared))
    assert [("timing" in chunk.model_extra) for chunk in chunks] == [False] * (len(chunks) - 1) + [asked]
