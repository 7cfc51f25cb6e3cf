"""Enders from decoded text, and the segment rule against a reference that reads the whole history."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfi_sglang.api.options import SFIOptions
from sfi_sglang.scheduling.enders import TokenKind, token_kind
from sfi_sglang.scheduling.segments import SegmentTracker, Vocabulary

VOCABULARY = Vocabulary(["word", " ", ".", "\n", "}"])
WORD, SPACE, STOP, NEWLINE, BRACE = range(5)


@pytest.mark.parametrize(
    ("text", "kind", "structural"),
    [
        (".", TokenKind.ENDER, TokenKind.ENDER),
        ('."', TokenKind.ENDER, TokenKind.ENDER),
        (".)", TokenKind.ENDER, TokenKind.ENDER),
        ("?\n", TokenKind.ENDER, TokenKind.ENDER),
        ("。", TokenKind.ENDER, TokenKind.ENDER),
        ("！」", TokenKind.ENDER, TokenKind.ENDER),
        ("…", TokenKind.ENDER, TokenKind.ENDER),
        ("end.", TokenKind.ENDER, TokenKind.ENDER),
        (".x", TokenKind.TEXT, TokenKind.TEXT),
        ('"', TokenKind.TEXT, TokenKind.TEXT),
        (" ", TokenKind.BLANK, TokenKind.BLANK),
        ("", TokenKind.BLANK, TokenKind.BLANK),
        ("\n", TokenKind.BLANK, TokenKind.ENDER),
        ("}", TokenKind.TEXT, TokenKind.ENDER),
        (" ]", TokenKind.TEXT, TokenKind.ENDER),
        (",", TokenKind.TEXT, TokenKind.TEXT),
    ],
)
def test_token_kind(text, kind, structural):
    assert token_kind(text, structural=False) == kind
    assert token_kind(text, structural=True) == structural


def slow_steps(options: SFIOptions, outputs: list[int], vocabulary: Vocabulary = VOCABULARY) -> list[int]:
    tracker, slow = SegmentTracker(options, vocabulary), []
    for step in range(len(outputs)):
        if tracker.step(outputs, visible=step):
            slow.append(step)
            tracker.refreshed()
    return slow


def test_the_token_after_the_ender_fires_one_step_late():
    options = SFIOptions(min_gap=2, max_segment=50)
    outputs = [WORD, WORD, WORD, STOP, SPACE, WORD, WORD, WORD]
    assert slow_steps(options, outputs) == [6]  # the new sentence starts at 5, the host sees it when 6 is planned


def test_min_gap_holds_back_and_max_segment_forces():
    outputs = [WORD, STOP] * 40
    gaps = SFIOptions(min_gap=10, max_segment=1000)
    slow = slow_steps(gaps, outputs)
    assert all(b - a >= 10 for a, b in itertools.pairwise(slow)) and len(slow) >= 6
    assert slow_steps(SFIOptions(min_gap=4, max_segment=20), [WORD] * 61) == [19, 39, 59]


def test_policies():
    outputs = [WORD, BRACE, NEWLINE, WORD, WORD, WORD] * 4
    assert slow_steps(SFIOptions(min_gap=1, max_segment=1000), outputs) == []
    assert slow_steps(SFIOptions(min_gap=1, max_segment=1000, policy="structural"), outputs)
    assert slow_steps(SFIOptions(min_gap=1, max_segment=8, policy="periodic"), [STOP, WORD] * 10) == [7, 15]


def test_random_segments_have_all_lengths_and_repeat():
    options = SFIOptions(min_gap=3, max_segment=6, policy="random")
    first, again = (slow_steps(options, [STOP, WORD] * 300) for _ in range(2))
    assert first == again
    assert {b - a for a, b in itertools.pairwise(first)} == {3, 4, 5, 6}


def test_drift_ends_a_segment_as_an_ender_does():
    options = SFIOptions(min_gap=4, max_segment=20, policy="drift")
    tracker = SegmentTracker(options, VOCABULARY)
    assert [tracker.step([WORD] * 5, step, drifted=step > 1) for step in range(5)] == [False, False, False, True, True]


@given(
    outputs=st.lists(st.integers(0, 4), max_size=120),
    gap=st.integers(1, 12),
    segment=st.integers(12, 30),
    ahead=st.integers(0, 3),
)
def test_decisions_ignore_what_the_host_may_or_may_not_know(outputs, gap, segment, ahead):
    """Overlap scheduling shows the tracker fewer outputs; it must decide alike whatever lies beyond `visible`."""
    options = SFIOptions(min_gap=gap, max_segment=segment)
    full, late = (SegmentTracker(options, VOCABULARY) for _ in range(2))
    for step in range(len(outputs)):
        decisions = full.step(outputs, step), late.step(outputs[: step + ahead], step)
        assert decisions[0] == decisions[1]
        if decisions[0]:
            full.refreshed(), late.refreshed()


@given(outputs=st.lists(st.integers(0, 4), max_size=120), gap=st.integers(1, 12), segment=st.integers(12, 30))
def test_against_a_reference_that_rereads_the_history(outputs, gap, segment):
    expected, last = [], -1
    for step in range(len(outputs)):
        seen = outputs[max(last, 0) : step] if last >= 0 else outputs[:step]
        # outputs consumed up to a refresh neither arm nor fire afterwards
        armed = fresh_text = False
        for i, token in enumerate(seen):
            if token == STOP:
                armed = True
            elif token in (WORD, BRACE) and armed and i == len(seen) - 1:
                fresh_text = True
        steps = step - last
        if (fresh_text and steps >= gap) or steps >= segment:
            expected.append(step)
            last = step
    assert slow_steps(SFIOptions(min_gap=gap, max_segment=segment), outputs) == expected


def test_unknown_ids_and_no_tokenizer_only_use_max_segment():
    empty = Vocabulary.of(None)
    assert slow_steps(SFIOptions(min_gap=1, max_segment=10), [STOP, 99999] * 15, empty) == [9, 19, 29]
