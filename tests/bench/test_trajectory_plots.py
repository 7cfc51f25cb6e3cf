"""The figures of the benchmark's report: what they draw, against plain NumPy."""

import numpy as np
import pytest

from sfi_sglang.trajectory.plots import figures
from sfi_sglang.trajectory.summary import summarise
from tests.made_runs import both, idle, made, results


def test_timeline_shows_the_typical_pair_turn_by_turn():
    odd = [made("dense", 1, "odd", itl=0.05), made("sfi", 1, "odd", itl=0.01)]
    data = results([*both("abc", loads=(1,), repeats=1), *odd])
    bars = {bar.name: bar for bar in figures(summarise(data), data)["timeline"].data}
    run = next(run for run in data.runs if run.mode == "sfi" and run.trajectory == bars["SFI, decode"].customdata[0][0])
    assert run.trajectory != "odd"
    starts = [call.start for call in run.calls]
    assert bars["SFI, first token"].base == pytest.approx(starts, abs=1e-4)
    assert bars["SFI, first token"].x == pytest.approx([0.1, 0.2, 0.3], abs=1e-4)
    assert bars["SFI, decode"].base == pytest.approx(
        [start + call.ttft for start, call in zip(starts, run.calls, strict=True)], abs=1e-4
    )
    assert bars["SFI, decode"].x == pytest.approx([call.decode_seconds for call in run.calls], abs=1e-4)
    assert list(bars["tool wait"].x) == [0.5] * 6
    assert bars["tool wait"].base[3:] == pytest.approx([start - 0.5 for start in starts], abs=1e-4)
    assert list(dict.fromkeys(bars["tool wait"].y)) == ["1 client, dense", "1 client, SFI"]


def test_cdf_against_numpy():
    data = results(both(loads=(1,)))
    dense, sfi = figures(summarise(data), data)["itl"].data
    for mode, line in (("dense", dense), ("sfi", sfi)):
        gaps = np.concatenate([np.diff(call.arrivals) for run in data.runs if run.mode == mode for call in run.calls])
        for x, share in list(zip(line.x, line.y, strict=True))[10:-10:20]:
            assert np.mean(gaps * 1e3 <= x) == pytest.approx(share, abs=2 / gaps.size + 0.005)


def test_a_cdf_of_few_values_has_a_step_for_each():
    data = results(both("ab", loads=(1,), repeats=1))
    for line in figures(summarise(data), data)["ttft"].data:
        assert line.line.shape == "hv"
        assert line.x == pytest.approx([100, 100, 100, 200, 200, 300, 300])
        assert line.y == pytest.approx(np.arange(7) / 6, abs=1e-3)


@pytest.mark.parametrize(("dense", "log"), [(0.02, False), (0.4, True)])
def test_an_axis_is_logarithmic_over_more_than_a_decade_and_says_so(dense, log):
    data = results(both("ab", loads=(1,), dense=dense))
    figure = figures(summarise(data), data)["itl"]
    axis, values = figure.layout.xaxis, [x for line in figure.data for x in line.x]
    assert (axis.type == "log", "log scale" in axis.title.text) == (log, log)
    if log:
        assert sum(min(values) <= tick <= max(values) for tick in axis.tickvals) >= 3


def test_a_context_in_which_sfi_never_acted_is_hollow():
    short = [idle(run.model_copy(update={"calls": run.calls[:1]})) for run in both("abc", loads=(1,))]
    data = results([*short, *(run.model_copy(update={"trajectory": "long"}) for run in both("d", loads=(1,)))])
    for run in data.runs:
        run.calls = run.calls[1:] if run.trajectory == "long" else run.calls
    line = figures(summarise(data), data)["tpot"].data[-1]
    assert list(zip(line.x, line.marker.symbol, strict=True)) == [
        ("1K–2K", "circle-open"),
        ("2K–4K", "circle"),
        ("4K–8K", "circle"),
    ]
