"""What a reader of the tables is told: what differed, a call that ran away, SFI that never acted."""

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from sfi_sglang.agents.compare import Row, difference, outcome, show, steps
from sfi_sglang.agents.demo import close
from sfi_sglang.agents.loop import MAX_TOKENS, AgentResult, Turn
from sfi_sglang.agents.program import Task
from sfi_sglang.client.call import Call

PATH = Path("runs/agent/sums/sfi/sum.json")


def row(answer="It is 2.", *, expected=2, mode="sfi", reason="answered", error=None, sfi=(3, 5), seconds=1.0, **turn):
    report = dict(zip(("slow_steps", "fast_steps"), sfi, strict=True)) if sfi else None
    call = Call(turn=0, start=0, end=2, arrivals=[0.5, 0.5 + seconds], output_tokens=9, prompt_tokens=6000, sfi=report)
    turns = [Turn(["answer"], None, turn.get("arguments", ""), False, call, cut=turn.get("cut", False))]
    return Row(Task("sum", "What is 1 + 1?", expected), mode, AgentResult(answer, reason, error, turns), PATH)


RUNAWAY = row(None, reason="step_limit", cut=True, arguments='{"text": "line 1' + "0" * 180)
FAILED = row(None, reason="error", error="InternalServerError: as told")


def printed(*rows):
    console = Console(width=160, file=StringIO(), record=True)
    show(rows, "sums", console)
    return console.export_text()


@pytest.mark.parametrize(
    ("one", "said", "why"),
    [
        (row("It is 3."), "wrong", "expected 2, got It is 3."),
        (row("1, 3", expected=(1, 2)), "wrong", "expected 1, 2, got 1, 3"),
        (RUNAWAY, "cut", f"got a call without an end, cut at {MAX_TOKENS} tokens: " + '{"text": "line 10000'),
        (row(None, reason="step_limit"), "step limit", "expected 2, got no answer within the steps"),
        (FAILED, "error", "expected 2, got InternalServerError: as told"),
    ],
    ids=["wrong", "two numbers", "run-away", "step limit", "error"],
)
def test_what_is_not_right_says_what_came_and_where_it_stands(one, said, why):
    assert said in outcome(one) and why in difference(one)
    text = printed(one)
    assert why in text and f"transcript: {PATH}" in text


def test_what_is_right_needs_no_words():
    text = printed(row())
    assert "right" in text and "expected" not in text and "transcript" not in text


def test_long_answers_are_shortened():
    assert len(difference(row("7" * 500))) < 100 and difference(row("7" * 500)).endswith(" ...")


@pytest.mark.parametrize(
    ("sfi", "shown"), [((3, 5), "3/5"), ((106, 0), "106/0, never acted"), ((0, 0), "0/0"), (None, "-")]
)
def test_steps_mark_where_sfi_never_acted(sfi, shown):
    assert steps(row(sfi=sfi).result.calls) == shown
    assert ("never acted" in printed(row(sfi=sfi))) == ("never" in shown)


def closing(*rows):
    console = Console(width=300, file=StringIO(), record=True)
    close(rows, {"dense": 20.0, "sfi": 50.0}, Path("runs/demo"), console)
    return console.export_text().splitlines()


def test_the_demo_closes_with_gain_cost_and_next():
    gained, cost, following = closing(row(mode="dense", sfi=None, seconds=1.0), row("It is 3.", seconds=0.5))
    assert gained.startswith("Gained: 16.0 tokens/s while decoding, dense 8.0 (2.00 times); 1 at once 50.0, dense 20.0")
    assert "(2.50 times). 5 of 8 steps were fast, at 6,000 tokens" in gained
    assert cost.startswith("Cost: right answers dense 1/1, SFI 0/1; 0 of 1 texts the same. Transcripts: runs/demo")
    assert following.startswith("Next: `sfi-sglang eval all --quick`")


def test_the_demo_claims_no_gain_where_sfi_never_acted():
    gained, cost, _ = closing(row(mode="dense", sfi=None), row(sfi=(8, 0)))
    assert gained.startswith("Gained: nothing, for SFI never acted") and "SFI 1/1; 1 of 1 texts the same" in cost
