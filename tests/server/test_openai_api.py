"""The OpenAI API of the real server through the real openai client: texts, and where the report is."""

import pytest

from tests.helpers import story

pytestmark = pytest.mark.server

SMALL = {"budget": 64, "recent": 64, "min_gap": 4, "max_segment": 16}
LONG = story(60)  # about 1000 tokens
OTHER = story(50, 300)
TOKENS = 24


def ask(client, door: str, prompt, sfi, **request):
    """One answer, or the chunks of a stream; greedy, TOKENS tokens a choice."""
    extra = {"sfi": sfi, "ignore_eos": True, **request.pop("extra", {})}
    shared = {"model": "m", "max_tokens": TOKENS, "temperature": 0, "extra_body": extra, **request}
    if request.get("stream"):
        shared["stream_options"] = {"include_usage": True}
    if door == "completions":
        answer = client.completions.create(prompt=prompt, **shared)
    else:
        answer = client.chat.completions.create(messages=[{"role": "user", "content": prompt}], **shared)
    return list(answer) if request.get("stream") else answer


def report(answer):
    """`sfi` beside the usage, which only the last chunk of a stream may have."""
    if isinstance(answer, list):
        assert not any("sfi" in chunk.model_extra for chunk in answer[:-1])
        answer = answer[-1]
    assert answer.usage.completion_tokens % TOKENS == 0
    return answer.model_extra.get("sfi")


DOORS = pytest.mark.parametrize("door", ["chat", "completions"])
STREAM = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


@DOORS
@STREAM
def test_the_report_is_beside_the_usage(client, door, stream):
    sparse = report(ask(client, door, LONG, SMALL, stream=stream))
    assert sparse["slow_steps"] + sparse["fast_steps"] == TOKENS - 1 and sparse["fast_steps"] > 0
    dense = ask(client, door, LONG, None, stream=stream)
    assert "sfi" not in (dense[-1] if stream else dense).model_extra


@DOORS
@STREAM
def test_several_choices_have_a_report_each(client, door, stream):
    answer = ask(client, door, LONG, SMALL, stream=stream, n=2)
    found = report(answer)
    assert len(found) == 2 and found[0]["prompt_tokens"] == found[1]["prompt_tokens"]
    assert all(one["slow_steps"] + one["fast_steps"] == TOKENS - 1 for one in found)
    assert (answer[-1] if stream else answer).usage.completion_tokens == 2 * TOKENS
    assert report(ask(client, door, LONG, None, stream=stream, n=2)) is None


@STREAM
def test_several_prompts_have_their_reports_in_order(client, stream):
    alone = [report(ask(client, "completions", prompt, SMALL, stream=stream)) for prompt in (LONG, OTHER)]
    found = report(ask(client, "completions", [LONG, OTHER], SMALL, stream=stream, n=2))
    lengths = [one["prompt_tokens"] for one in alone]
    assert lengths[0] != lengths[1]
    assert [one["prompt_tokens"] for one in found] == [lengths[0], lengths[0], lengths[1], lengths[1]]


def test_a_chat_has_the_report_in_its_meta_info_too(client):
    answer = ask(client, "chat", LONG, SMALL, extra={"return_meta_info": True})
    assert answer.choices[0].model_extra["meta_info"]["sfi"] == report(answer)


def test_a_stream_without_usage_has_the_text_alone(client):
    whole = ask(client, "chat", LONG, SMALL)
    chunks = client.chat.completions.create(
        model="m",
        messages=[{"role": "user", "content": LONG}],
        max_tokens=TOKENS,
        temperature=0,
        stream=True,
        extra_body={"sfi": SMALL, "ignore_eos": True},
    )
    chunks = list(chunks)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole.choices[0].message.content
    assert not any("sfi" in chunk.model_extra for chunk in chunks)


def test_a_budget_above_the_context_answers_like_dense(client):
    dense, sparse = (ask(client, "completions", LONG, sfi) for sfi in (None, {"budget": 4096}))
    streamed = ask(client, "completions", LONG, {"budget": 4096}, stream=True)
    text = "".join(chunk.choices[0].text for chunk in streamed if chunk.choices)
    assert dense.choices[0].text == sparse.choices[0].text == text
