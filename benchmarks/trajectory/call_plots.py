"""Figures of single calls: how their latencies are distributed, and the speed-up by context length."""

from collections.abc import Callable

import numpy as np
import plotly.graph_objects as go

from sfi_sglang.client.call import Call
from sfi_sglang.report.modes import NAMES
from sfi_sglang.report.plot_style import COLOURS, DASHES, SYMBOLS, whiskers
from sfi_sglang.trajectory.headline import unit
from sfi_sglang.trajectory.plot_style import by_load
from sfi_sglang.trajectory.records import Run
from sfi_sglang.trajectory.stats import Floats
from sfi_sglang.trajectory.summary import Summary, by_cell

LEVELS = np.union1d(np.linspace(0, 1, 201), [0.99, 0.995, 0.999])  # of a CDF, however many values it has
FEWEST_MS = 0.01  # two chunks of text that came at once
POWERS = range(-3, 7)  # of ten, in ms


def latency_cdf(
    summary: Summary, runs: list[Run], values: Callable[[Call], list[float]], title: str
) -> go.Figure:  # fmt: skip
    """Steps, one a value up to as many as LEVELS. Logarithmic where the values span more than a decade: over less, such
    an axis has next to no ticks."""
    figure = go.Figure(layout={"height": 340})
    lowest, highest = np.inf, 0.0
    for (mode, load), cell in by_cell(runs).items():
        sample = [1e3 * value for run in cell for call in run.calls for value in values(call)]
        if sample:
            x, y = _steps(np.maximum(sample, FEWEST_MS))
            lowest, highest = min(lowest, x[0]), max(highest, x[-1])
            figure.add_scatter(
                name=f"{NAMES[mode]}, {unit(summary.header, load)}",
                x=[float(f"{value:.4g}") for value in x],
                y=y.round(4).tolist(),
                mode="lines",
                line={
                    "color": COLOURS[mode][0],
                    "dash": by_load(summary, load, DASHES),
                    "width": 2,
                    "shape": "hv",
                },
                hovertemplate="%{y:.1%} within %{x:.3~g} ms",
            )
    if highest > 10 * lowest:
        digits = (1, 2, 5) if highest < 1000 * lowest else (1,)
        ticks = [float(f"{digit}e{power}") for power in POWERS for digit in digits]
        labels = [f"{tick:g}" for tick in ticks]
        figure.update_xaxes(type="log", title=f"{title} (log scale)", tickvals=ticks, ticktext=labels)
    else:
        figure.update_xaxes(title=title)
    figure.update_yaxes(title="share", tickformat=".0%", range=[0, 1.01])
    return figure


def _steps(sample: Floats) -> tuple[Floats, Floats]:
    """Corners of the empirical CDF: values in order, and the share of the sample up to each."""
    if len(sample) < len(LEVELS):
        ordered = np.sort(sample)
        return np.append(ordered[0], ordered), np.linspace(0, 1, len(sample) + 1)
    return np.quantile(sample, LEVELS, method="inverted_cdf"), LEVELS


def context_plot(summary: Summary, field: str, title: str) -> go.Figure:
    """Ratios over bins of prompt tokens; hollow where SFI never acted."""
    figure = go.Figure(layout={"height": 340})
    for load in sorted({bin.load for bin in summary.contexts}):
        found = [(bin, value) for bin in summary.contexts if bin.load == load and (value := getattr(bin, field))]
        symbol, dash = by_load(summary, load, SYMBOLS), by_load(summary, load, DASHES)
        colour, name = COLOURS["sfi"][0], unit(summary.header, load)
        sure = [(_range(bin.low), value.value, value.interval) for bin, value in found if value.interval]
        if sure:
            values, intervals = [value for _, value, _ in sure], [interval for *_, interval in sure]
            figure.add_scatter(
                name=name,
                showlegend=False,
                hoverinfo="skip",
                x=[place for place, *_ in sure],
                y=values,
                error_y={**whiskers(values, intervals), "color": colour},
                mode="markers",
                marker={"opacity": 0},
            )
        figure.add_scatter(
            name=name,
            x=[_range(bin.low) for bin, _ in found],
            y=[value.value for _, value in found],
            mode="lines+markers",
            line={"color": colour, "dash": dash},
            marker={"symbol": [symbol + "-open" * (bin.idle_calls == bin.sfi_calls) for bin, _ in found], "size": 9},
            customdata=[(bin.dense_calls, bin.sfi_calls, bin.idle_calls) for bin, _ in found],
            hovertemplate="%{y:.2f}x<br>%{x} prompt tokens<br>%{customdata[0]} dense calls, %{customdata[1]} SFI, "
            "%{customdata[2]} of them without a fast step",
        )
    lows = sorted({bin.low for bin in summary.contexts})
    bins = [_range(2**power) for power in range(lows[0].bit_length() - 1, lows[-1].bit_length())] if lows else []
    figure.update_xaxes(type="category", categoryorder="array", categoryarray=bins, title="prompt tokens")
    figure.update_yaxes(title=title)
    figure.add_hline(
        y=1, line={"color": COLOURS["dense"][0], "width": 2}, annotation={"text": "dense", "yanchor": "top"}
    )
    return figure


def _range(low: int) -> str:
    return f"{_tokens(low)}–{_tokens(2 * low)}"


def _tokens(count: int) -> str:
    return f"{count // 1024}K" if count >= 1024 else str(count)
