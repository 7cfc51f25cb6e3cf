"""Filler texts of an exact length, and the counters of tokens that they are measured with."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfi_sglang.client.filler import Filler
from sfi_sglang.client.token_count import (
    MESSAGE_TOKENS,
    calibrated,
    estimate,
    from_server,
    from_tokenizer,
    message_tokens,
)
from sfi_sglang.serving.embedded_model import embedded_model

COUNT = from_tokenizer(embedded_model())
FILLER = Filler(COUNT)


@given(kind=st.sampled_from(["code", "prose", "listing"]), tokens=st.integers(0, 3000), key=st.text(max_size=4))
def test_texts_have_the_asked_number_of_tokens(kind, tokens, key):
    assert COUNT(FILLER.text(kind, tokens, key)) == tokens


@pytest.mark.parametrize("kind", ["code", "prose", "listing"])
def test_long_texts_have_the_asked_number_of_tokens(kind):
    assert COUNT(FILLER.text(kind, 160_000, "long")) == 160_000


def test_an_estimate_gives_lengths_within_half_a_percent():
    count = estimate(3.7)
    assert count(Filler(count).text("code", 50_000, "x")) == pytest.approx(50_000, rel=0.005)


def test_tokens_of_joined_texts_add_up():
    assert COUNT(FILLER.text("code", 700, "a") + FILLER.text("prose", 300, "b")) == 1000


def test_texts_depend_on_key_and_seed_alone():
    assert Filler(COUNT).text("code", 500, "a") == FILLER.text("code", 500, "a")
    assert FILLER.text("code", 500, "b") != FILLER.text("code", 500, "a")
    assert Filler(COUNT, seed=1).text("code", 500, "a") != FILLER.text("code", 500, "a")


def test_a_text_starts_with_its_heading():
    text = FILLER.text("prose", 50, "a", heading="Task 7.")
    assert text.startswith("Task 7.\n")
    assert COUNT(text) == 50


def test_an_unknown_kind_is_named():
    with pytest.raises(ValueError, match="kind: 'verse'"):
        FILLER.text("verse", 10, "a")


def test_a_missing_tokenizer_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"tokenizer\.json"):
        from_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"content": "one two"}, "one two"),
        (
            {"content": [{"type": "text", "text": "one"}, {"type": "image_url"}, {"type": "text", "text": " two"}]},
            "one two",
        ),
        ({"content": None, "tool_calls": [{"function": {"name": "f"}}]}, '{"name": "f"}'),
        ({"content": "one two", "tool_calls": [{"function": {"name": "f"}}]}, "one two"),
    ],
)
def test_a_messages_tokens_are_its_texts_and_the_templates(message, text):
    assert message_tokens(message, COUNT) == COUNT(text) + MESSAGE_TOKENS


@pytest.mark.server
def test_counters_agree_with_the_server(server, client):
    text = FILLER.text("code", 2000, "sample")
    model = client.models.list().data[0].id
    assert from_server(server, model, text)(text) == 2000
    assert calibrated(server, model, text)(text) == pytest.approx(2000, abs=2)
