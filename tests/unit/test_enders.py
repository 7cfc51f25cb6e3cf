"""Enders of a real byte-level tokenizer: every one that Unicode knows, also where its bytes take several tokens."""

import sys

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from sfi_sglang.api.options import SFIOptions
from sfi_sglang.scheduling.enders import CLOSERS, TokenKind, token_bytes
from sfi_sglang.scheduling.segments import BROKEN, SegmentTracker, Vocabulary
from sfi_sglang.serving.embedded_model import embedded_model

TOKENIZER = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_file(str(embedded_model() / "tokenizer.json")))
VOCABULARY = Vocabulary.of(TOKENIZER)
KNOWN = ".?!\u2026\u3002\uff01\uff1f\uff0e\uff61"  # of old, from a list
TERMINALS = [c for c in map(chr, range(sys.maxunicode + 1)) if regex.match(r"\p{Sentence_Terminal}", c)]
SIGNS = st.sampled_from([*TERMINALS, "\u2026"])
WORDS = st.text(st.characters(categories=["L"]), min_size=1, max_size=6)


def ids(text: str) -> list[int]:
    return TOKENIZER.encode(text, add_special_tokens=False)


def kinds(tokens: list[int], policy: str = "sentence") -> list[int]:
    tracker = SegmentTracker(SFIOptions(policy=policy), VOCABULARY)
    return [tracker.kind(token) for token in tokens]


def completed(tokens: list[int], text: str) -> int:
    """Index of the token with which `text` is whole."""
    return next(i for i in range(len(tokens)) if str(TOKENIZER.decode(tokens[: i + 1])).startswith(text))


def old_kind(text: str) -> TokenKind:
    core = text.strip().rstrip(CLOSERS)
    if not text.strip():
        return TokenKind.BLANK
    return TokenKind.ENDER if core and core[-1] in KNOWN else TokenKind.TEXT


@given(before=WORDS, sign=SIGNS, space=st.sampled_from(["", " ", "\n", "\u3000"]), after=WORDS)
def test_every_terminal_arms_with_the_token_that_completes_it(before, sign, space, after):
    tokens = ids(before + sign + space + after)
    at = completed(tokens, before + sign)
    found = kinds(tokens)
    assert found[at] == TokenKind.ENDER
    assert TokenKind.ENDER not in found[: completed(tokens, before) + 1]


@given(before=WORDS, sign=SIGNS, after=WORDS)
def test_every_terminal_ends_a_segment(before, sign, after):
    """The slow step is the one whose input follows the word's first whole character: the host decides a token late."""
    text = f"{before}{sign} {after}"
    tokens = ids(text)
    tracker = SegmentTracker(SFIOptions(min_gap=1, max_segment=1000), VOCABULARY)
    slow = next(step for step in range(len(tokens) + 1) if tracker.step(tokens, visible=step))
    assert slow == completed(tokens, f"{before}{sign} {after[0]}") + 1


@pytest.mark.parametrize("sign", ["\u0964", "\u061f", "\u06d4", "\u1362", "\U0001da88"])
def test_signs_of_several_tokens(sign):
    """Danda, Arabic question mark, Urdu and Ethiopic full stop, SignWriting: the embedded tokenizer splits them."""
    tokens = ids(sign)
    assert len(tokens) > 1 and not set(sign) & set(KNOWN)
    assert kinds(tokens) == [TokenKind.BLANK] * (len(tokens) - 1) + [TokenKind.ENDER]


def test_an_unfinished_character_is_forgotten_when_another_begins():
    first, *_, last = ids("\u0964")
    word = ids("word")
    assert kinds([first, *word, last])[-1] == TokenKind.TEXT


@given(st.text(st.characters(max_codepoint=0x24F)))
def test_plain_text_has_the_enders_it_had(text):
    tokens = ids(text)
    whole = [(kind, old_kind(TOKENIZER.decode([i]))) for i, kind in zip(tokens, kinds(tokens), strict=True)]
    assert all(now == old for i, (now, old) in zip(tokens, whole, strict=True) if i not in VOCABULARY.pieces)
    assert all(kind != TokenKind.ENDER for i, (kind, _) in zip(tokens, whole, strict=True) if i in VOCABULARY.pieces)


def test_whole_tokens_are_what_they_were_but_for_new_signs():
    decoded = TOKENIZER.batch_decode([[i] for i in range(len(TOKENIZER))])
    new = set(TERMINALS) - set(KNOWN)
    changed = [text for text, kind in zip(decoded, VOCABULARY.sentence, strict=True) if kind != old_kind(text)]
    assert all(text.strip().rstrip(CLOSERS)[-1] in new for text in changed)
    names = TOKENIZER.convert_ids_to_tokens(range(len(TOKENIZER)))
    kind = dict(zip(names, VOCABULARY.sentence, strict=True))
    assert kind["."] == kind["?"] == kind['."'] == TokenKind.ENDER
    assert kind["\u010a"] == TokenKind.BLANK and kind["the"] == kind["<|im_end|>"] == TokenKind.TEXT


def test_bytes_of_tokens():
    special = set(TOKENIZER.all_special_ids)
    for i, name in enumerate(TOKENIZER.convert_ids_to_tokens(range(len(TOKENIZER)))):
        text = str(TOKENIZER.decode([i]))
        if i not in special and BROKEN not in text:
            assert token_bytes(name) == text.encode()
    assert token_bytes("<0xE0>") == b"\xe0" and token_bytes(b"\xe0") == b"\xe0"
    assert token_bytes("\u2581word") is None and token_bytes(None) is None


def test_byte_fallback_reads_a_sign_of_several_tokens():
    pieces = {i: bytes([byte]) for i, byte in enumerate("\u0964".encode())}
    tracker = SegmentTracker(SFIOptions(), Vocabulary([BROKEN] * 3, pieces))
    assert [tracker.kind(i) for i in range(3)] == [TokenKind.BLANK, TokenKind.BLANK, TokenKind.ENDER]
