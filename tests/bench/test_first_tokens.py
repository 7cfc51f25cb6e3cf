"""First tokens apart for cold and cached prompts, and the host's part of them."""

import numpy as np
import pytest

from sfi_sglang.client.call import Call
from sfi_sglang.trajectory.first_tokens import first_tokens, is_cached
from sfi_sglang.trajectory.report import markdown
from sfi_sglang.trajectory.summary import summarise
from tests.made_runs import made, results


def call(ttft, cached, **timing):
    return Call(turn=0, start=3.0, end=9.0, arrivals=[ttft, 5.0], prompt_tokens=1000, cached_tokens=cached, **timing)


def test_calls_are_told_apart_by_how_much_was_cached():
    cold = [call(4.0, 0), call(2.0, 499, queue=0.5, prefill=1.0)]
    warm = [call(0.8, 500, queue=0.1, prefill=0.3), call(0.5, 999, queue=0.0, prefill=0.3), call(0.6, 990)]
    unknown = [call(9.0, None, queue=1.0, prefill=1.0)]
    silent = [Call(turn=0, start=0, end=1, prompt_tokens=10, cached_tokens=0, queue=0.1, prefill=0.1)]
    calls = [*cold, *unknown, *warm, *silent]
    assert [is_cached(each) for each in calls] == [False, False, None, True, True, True, False]
    first, later = first_tokens(calls, cached=False), first_tokens(calls, cached=True)
    assert first.ttft.n == 2 and first.ttft.p50 == pytest.approx(3.0)
    assert first.host.n == 1 and first.host.p50 == pytest.approx(0.5) and first.prefill.p50 == pytest.approx(1.0)
    assert later.ttft.n == 3 and later.ttft.p50 == pytest.approx(np.median([0.8, 0.5, 0.6]))
    assert later.host.n == 2 and later.host.p50 == pytest.approx(0.3) and later.prefill.p50 == pytest.approx(0.3)
    assert first_tokens(unknown, cached=True) is first_tokens(unknown, cached=False) is None


def test_the_report_shows_them():
    run = made(turns=4)  # half of each prompt is cached, first tokens come after 100, 200, 300 and 400 ms
    changes = [{"cached_tokens": 0, "queue": 0.01, "prefill": 0.06}, {}, {}, {"queue": 0.0, "prefill": 0.15}]
    run.calls = [each.model_copy(update=change) for each, change in zip(run.calls, changes, strict=True)]
    text = markdown(summarise(results([run])))
    section = text[text.index("First tokens") :]
    row = next(line for line in section.splitlines() if "ense" in line and line.startswith("|"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[-10:] == ["1", "100", "100", "60.0", "30.0", "3", "300", "398", "150", "250"]
