"""The benchmark's report: its statistics against plain NumPy, and its honesty."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sfi_sglang.trajectory.cells import Slo
from sfi_sglang.trajectory.headline import headline
from sfi_sglang.trajectory.report import markdown, write_report
from sfi_sglang.trajectory.summary import summarise
from tests.made_runs import both, failing, idle, made, results


def test_cell_against_numpy():
    runs = both()
    cell = summarise(results(runs)).cells[3]
    mine = [run for run in runs if run.mode == "sfi" and run.load == 4]
    calls = [call for run in mine for call in run.calls]
    times = [run.end - run.start - 1.5 for run in mine]
    gaps = np.concatenate([np.diff(call.arrivals) for call in calls])
    ends = [max(run.end for run in mine if run.repeat == repeat) for repeat in (0, 1)]
    assert (cell.mode, cell.load, cell.runs, cell.failed, cell.calls) == ("sfi", 4, 10, 0, 30)
    assert cell.time.mean == pytest.approx(np.mean(times))
    assert [cell.time.p50, cell.time.p90, cell.time.p99] == pytest.approx(np.percentile(times, [50, 90, 99]))
    assert cell.tool.mean == pytest.approx(1.5)
    assert [cell.ttft.p50, cell.ttft.p99] == pytest.approx(np.percentile([0.1, 0.2, 0.3] * 10, [50, 99]))
    assert cell.itl.n == 30 * 19
    assert [cell.itl.p50, cell.itl.p99] == pytest.approx(np.percentile(gaps, [50, 99]))
    assert cell.itl.p99 > 1.5 * cell.itl.p50  # the slow steps
    assert cell.tpot.mean == pytest.approx(np.mean(gaps))
    assert cell.decode_share == pytest.approx(gaps.sum() / sum(times))
    assert (cell.prompt_tokens, cell.output_tokens) == (10 * 7 * 1024, 600)
    assert (cell.cached_tokens, cell.inherited_tokens) == (10 * 7 * 512, 210)
    assert cell.slow_step_ratio == pytest.approx(1 / 19) and cell.coverage == pytest.approx(0.9)
    assert cell.wall == pytest.approx(sum(ends))
    assert cell.output_tokens_per_second == pytest.approx(600 / sum(ends))
    assert cell.requests_per_second == pytest.approx(30 / sum(ends))
    parts = cell.parts
    assert parts.first_token == pytest.approx(0.6)
    assert parts.first_token + parts.decode + parts.other == pytest.approx(cell.time.mean)


def test_what_a_server_does_not_report_is_absent():
    run = made()
    run.calls = [call.model_copy(update={"cached_tokens": None}) for call in run.calls]
    cell = summarise(results([run])).cells[0]
    assert (cell.cached_tokens, cell.inherited_tokens, cell.slow_step_ratio) == (None, None, None)
    assert cell.coverage is cell.success is None


def test_ratio_and_interval_against_numpy():
    runs = both("abcdefgh", loads=(1,))
    [pairing] = summarise(results(runs)).speed_up
    times = {mode: np.zeros((8, 2)) for mode in ("dense", "sfi")}
    for run in runs:
        times[run.mode]["abcdefgh".index(run.trajectory), run.repeat] = run.seconds
    drawn = np.random.default_rng(1).integers(0, 8, (20000, 8))
    ratios = times["dense"][drawn].mean((1, 2)) / times["sfi"][drawn].mean((1, 2))
    low, high = np.quantile(ratios, [0.025, 0.975])
    assert (pairing.pairs, pairing.failed, pairing.unmatched, pairing.time.trajectories) == (16, 0, 0, 8)
    assert pairing.time.value == pytest.approx(times["dense"].mean() / times["sfi"].mean())
    width = high - low
    assert pairing.time.interval.low == pytest.approx(low, abs=0.05 * width)
    assert pairing.time.interval.high == pytest.approx(high, abs=0.05 * width)


@given(st.lists(st.floats(0.001, 0.1), min_size=3, max_size=6))
@settings(max_examples=20)
def test_identical_runs_have_ratio_one(itls):
    runs = [made(mode, 1, f"t{i}", itl=itl) for i, itl in enumerate(itls) for mode in ("dense", "sfi")]
    summary = summarise(results(runs))
    time = summary.speed_up[0].time
    assert time.value == 1
    assert time.interval.low <= 1 <= time.interval.high
    assert "no clear difference at 1 client" in headline(summary)


@given(st.integers(0, 9), st.floats(0, 1))
@settings(max_examples=20)
def test_a_failed_run_never_improves_anything(index, fraction):
    """However early it failed, only what is left counts."""
    runs = both(loads=(1,), repeats=2)
    sfi = [run for run in runs if run.mode == "sfi"]
    rest = [run for run in runs if run is not sfi[index]]
    failed = failing(sfi[index], calls=sfi[index].calls[:1], end=fraction * sfi[index].end)
    whole, broken, without = (summarise(results(kept)) for kept in (runs, [*rest, failed], rest))
    assert broken.speed_up[0].time == without.speed_up[0].time
    assert (broken.speed_up[0].pairs, broken.speed_up[0].failed, broken.speed_up[0].unmatched) == (9, 1, 0)
    assert broken.cells[1].time == without.cells[1].time
    assert broken.cells[1].itl == without.cells[1].itl
    assert (broken.cells[1].failed, broken.cells[1].runs) == (1, 10)
    stayed = summarise(results([*rest, failing(sfi[index])])).cells[1]
    assert stayed.wall == whole.cells[1].wall
    assert stayed.goodput < whole.cells[1].goodput
    assert stayed.output_tokens_per_second < whole.cells[1].output_tokens_per_second


def test_a_failed_call_or_no_call_is_a_failed_trajectory():
    call = made().calls[0].model_copy(update={"error": "timeout"})
    runs = [made(trajectory="ok"), made().model_copy(update={"calls": [call]}), made().model_copy(update={"calls": []})]
    summary = summarise(results(runs))
    assert summary.cells[0].time.n == 1
    assert [(failure.turn, failure.error) for failure in summary.failures] == [
        (0, "timeout"),
        (None, "no call was made"),
    ]


def test_unmatched_runs_are_counted():
    runs = [run for run in both("abcd", loads=(1,), repeats=1) if (run.mode, run.trajectory) != ("sfi", "d")]
    pairing = summarise(results(runs)).speed_up[0]
    assert (pairing.pairs, pairing.unmatched) == (3, 1)


@pytest.mark.parametrize(("names", "given"), [("ab", False), ("abc", True)])
def test_too_few_trajectories_have_no_interval(names, given):
    summary = summarise(results(both(names)))
    assert (summary.speed_up[0].time.interval is not None) == given
    assert ("too few" in headline(summary)) == (not given)
    assert ("| too few |" in markdown(summary)) == (not given)


def test_goodput_needs_every_call_within_the_slo():
    runs = [made(trajectory=name, itl=0.01) for name in "abc"] + [made(trajectory="d", itl=0.1)]
    wall = max(run.end for run in runs)
    for slo, good in ((Slo(ttft=0.31, tpot=0.02), 3), (Slo(ttft=0.31, tpot=0.2), 4), (Slo(ttft=0.29, tpot=0.2), 0)):
        assert summarise(results(runs), slo).cells[0].goodput == pytest.approx(60 * good / wall)


def test_success_has_wilsons_interval_and_counts_the_failed():
    runs = [made(trajectory=str(i), success=i < 7) for i in range(9)] + [failing(made(trajectory="9", success=True))]
    success = summarise(results(runs, history="live")).cells[0].success
    z, n, p = 1.959964, 10, 0.7
    middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    assert (success.successes, success.n) == (7, 10)
    expected = [(middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)]
    assert [success.interval.low, success.interval.high] == pytest.approx(expected, rel=1e-5)


def test_contexts_are_binned_by_prompt_tokens():
    bins = summarise(results(both(loads=(1,), dense=0.03))).contexts
    assert [(bin.low, bin.high, bin.dense_calls, bin.sfi_calls) for bin in bins] == [
        (1024, 2048, 10, 10),
        (2048, 4096, 10, 10),
        (4096, 8192, 10, 10),
    ]
    assert [bin.tpot.value for bin in bins] == pytest.approx([3, 3, 3])
    latencies = [bin.latency.value for bin in bins]
    assert 1 < latencies[2] < latencies[1] < latencies[0] < 3  # the prefill, longer in later turns, is the same


# What is said


def test_a_losing_cell_is_said_to_lose():
    summary = summarise(results(both(loads=(1,), sfi=0.03) + both(loads=(4,), sfi=0.01)))
    slow, fast = (pairing.time for pairing in summary.speed_up)
    assert slow.interval.high < 1 < fast.interval.low
    text = headline(summary)
    assert f"{slow.value:.2f}x ({slow.interval.low:.2f}–{slow.interval.high:.2f}) and {fast.value:.2f}x" in text
    assert text.endswith("as fast as dense at 1 and 4 clients: SFI is slower at 1 client.")
    assert text in markdown(summary)


def test_one_mode_alone_is_no_comparison(tmp_path):
    write_report(results([made()]), tmp_path)
    assert "nothing to compare" in (tmp_path / "report.md").read_text()


def test_live_headline_states_the_right_answers():
    runs = [
        made(mode, trajectory=name, success=name in good)
        for mode, good in (("dense", "abc"), ("sfi", "a"))
        for name in "abc"
    ]
    assert headline(summarise(results(runs, history="live"))).endswith("Right answers: dense 3 of 3, SFI 1 of 3.")


def test_a_file_without_dense_runs_takes_those_of_the_other(tmp_path):
    runs, sparse = both(loads=(1,)), [run for run in both(loads=(1,), sfi=0.005) if run.mode == "sfi"]
    whole, summary = summarise(results(runs)), summarise(results(sparse), other=results(runs))
    (ratio,), (mine,) = summary.speed_up, whole.speed_up
    assert ratio.time.value > mine.time.value > 1 and summary.borrowed == [1] and not whole.borrowed
    assert f"{ratio.time.value:.2f}x" in headline(summary) and "as fast as dense of the other file" in headline(summary)
    assert "Dense is of the other file." in markdown(summary) and "other file" not in markdown(whole)
    assert [(cell.mode, cell.load) for cell in summary.comparison.cells] == [("sfi", 1)]
    write_report(results(sparse), tmp_path, other=results(runs))
    assert "as fast as dense of the other file" in (tmp_path / "index.html").read_text()


def test_comparison_of_two_files():
    now, before = results(both(loads=(1, 4))), results(both(loads=(4, 8), sfi=0.02), settings={"sfi": {"budget": 64}})
    summary = summarise(now, other=before)
    dense, sfi = summary.comparison.cells
    assert [(cell.mode, cell.load, cell.pairs) for cell in (dense, sfi)] == [("dense", 4, 10), ("sfi", 4, 10)]
    assert dense.time.value == 1
    assert sfi.time.interval.low > 1
    assert [(d.field, d.this, d.other) for d in summary.comparison.differences] == [("settings.sfi.budget", 512, 64)]
    assert f"| 4 | SFI | {sfi.time.value:.2f}x |" in markdown(summary)


@pytest.mark.parametrize(("field", "value"), [("workload", "x"), ("history", "live"), ("arrivals", "poisson")])
def test_files_of_another_kind_do_not_compare(field, value):
    with pytest.raises(ValueError, match=f"{field}: .*{value}"):
        summarise(results(both()), other=results(both(), **{field: value}))


def test_trajectories_in_which_sfi_never_acted_are_named():
    runs = both("abc", loads=(1, 4), repeats=2)
    some = summarise(results([idle(run) if run.trajectory == "b" and run.load == 1 else run for run in runs]))
    assert [(found.load, found.trajectory, found.runs, found.longest) for found in some.idle] == [(1, "b", 2, 4116)]
    assert [pairing.idle for pairing in some.speed_up] == [2, 0] and some.cells[1].idle_calls == 6
    assert headline(some).endswith("In 2 of 6 pairs SFI never acted.")
    assert "## Where SFI never acted" in markdown(some)
    none = summarise(results([idle(run) for run in runs]))
    assert headline(none).endswith("at 1 and 4 clients: SFI never acted at 1 and 4 clients.")
    acted = summarise(results(runs))
    assert not acted.idle and "never acted" not in headline(acted)
    assert "## Where SFI never acted" not in markdown(acted)


def test_goodput_says_how_the_slo_is_set():
    text = [markdown(summarise(results(both(loads=(1,))), Slo(ttft=ttft))) for ttft in (1, 0.05)]
    assert all("--slo-ttft" in each and "--slo-tpot" in each for each in text)
    assert "Where it is 0.00" not in text[0] and "TTFT has a p99 of 0.3 s" in text[1]
