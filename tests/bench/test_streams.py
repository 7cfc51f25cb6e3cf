"""The stream reader finds in a reply what the `openai` client finds, whatever the text and wherever TCP cuts."""

import json

import httpx
import openai
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sfi_sglang.client.openai_stream import BrokenStream, chat

ENDS = "a\u2028b\u2029c\u0085d\x0be\x0cf\x1cg\r\nh"  # what Python takes for ends of lines


def chunk(**choice):
    choices = [{"index": 0, **choice}]
    return {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": "m", "choices": choices}


def client(body: bytes, size: int = 10**9) -> openai.OpenAI:
    """One whose every answer is `body`, in pieces of `size` bytes."""

    def answer(request):
        pieces = (body[start : start + size] for start in range(0, len(body), size))
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, content=pieces)

    http = httpx.Client(transport=httpx.MockTransport(answer))
    return openai.OpenAI(base_url="http://made/v1", api_key="none", http_client=http, max_retries=0)


def events(*data, end="\n"):
    lines = [*(json.dumps(each, ensure_ascii=False) for each in data), "[DONE]"]
    return "".join(f"data: {line}{end}{end}" for line in lines).encode()


def said(openai_client):
    stream = openai_client.chat.completions.create(model="m", messages=[], stream=True)
    return "".join(event.choices[0].delta.content or "" for event in stream)


texts = st.lists(st.text(max_size=9), min_size=1, max_size=4)


@example(texts=[ENDS, ENDS], size=10**9, end="\n")
@example(texts=[ENDS], size=1, end="\r\n")
@given(texts=texts, size=st.integers(1, 40), end=st.sampled_from(["\n", "\r\n", "\r"]))
def test_any_text_is_read_as_the_openai_client_reads_it(texts, size, end):
    body = events(*(chunk(delta={"content": text}) for text in texts), chunk(delta={}, finish_reason="stop"), end=end)
    reply = chat(client(body, size), model="m", messages=[])
    assert reply.message["content"] == said(client(body, size)) == "".join(texts)


def test_a_tool_call_may_hold_any_text():
    call = {"index": 0, "id": "c", "function": {"name": "f", "arguments": json.dumps({"a": ENDS}, ensure_ascii=False)}}
    body = events(chunk(delta={"tool_calls": [call]}), chunk(delta={}, finish_reason="tool_calls"))
    made = chat(client(body), model="m", messages=[]).message["tool_calls"]
    assert json.loads(made[0]["function"]["arguments"]) == {"a": ENDS}


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_reasoning_arrives(name):
    body = events(chunk(delta={name: "hm"}), chunk(delta={name: "so"}), chunk(delta={}, finish_reason="stop"))
    assert len(chat(client(body), model="m", messages=[]).arrivals) == 2


def test_halves_of_a_character_come_together_and_one_alone_can_be_sent_back():
    halves = [f"data: {json.dumps(chunk(delta={'content': half}))}\n\n" for half in ("a\ud83d", "\ude00b\ud83d")]
    body = "".join(halves).encode() + events(chunk(delta={}, finish_reason="stop"))
    assert chat(client(body), model="m", messages=[]).message["content"] == "a\U0001f600b\ufffd"


@pytest.mark.parametrize(
    "line", ["{", "[]", "3", '{"choices": null}', pytest.param("[" * 9999, id="deep"), "{}", '{"choices": [{}]}']
)
def test_what_is_no_reply_is_a_broken_stream(line):
    with pytest.raises(BrokenStream):
        chat(client(f"data: {line}\n\n".encode()), model="m", messages=[])


@given(cut=st.integers(0, 400))
def test_a_stream_cut_anywhere_before_its_end_is_broken(cut):
    body = events(chunk(delta={"content": ENDS}), chunk(delta={"content": ENDS}), chunk(delta={}, finish_reason="stop"))
    whole = body.index(b'"finish_reason"')
    with pytest.raises(BrokenStream):
        chat(client(body[: min(cut, whole)]), model="m", messages=[])
