"""The report's figures, by Plotly. Colours of text and grid are the page's, set there."""

import math
from collections.abc import Callable, Iterator

import numpy as np
import plotly.graph_objects as go

from sfi_sglang.client.call import Call
from sfi_sglang.trajectory.headline import NAMES, unit
from sfi_sglang.trajectory.pairing import complete, complete_pairs
from sfi_sglang.trajectory.records import Mode, Results, Run
from sfi_sglang.trajectory.stats import Ratio
from sfi_sglang.trajectory.summary import Summary, by_cell

# Blue and vermilion, after Okabe and Ito's palette for colour-blind readers, light enough for a dark page.
# Full: decode, and the mode as a whole. Tint: until the first token.
COLOURS: dict[Mode, tuple[str, str]] = {"dense": ("#2f7fc1", "#a5cbe9"), "sfi": ("#e0692a", "#f5bf9b")}
GREY, LIGHT, RED = "#8b949e", "rgba(139,148,158,0.35)", "#d93a31"
TICKS = [float(f"{digit}e{power}") for power in range(-3, 7) for digit in (1, 2, 5)]  # of a log axis
DASHES, SYMBOLS = ("solid", "dash", "dot", "dashdot"), ("circle", "square", "diamond", "triangle-up")
LEVELS = np.union1d(np.linspace(0, 1, 201), [0.99, 0.995, 0.999])  # of a CDF, however many values it has


def figures(summary: Summary, results: Results) -> dict[str, go.Figure]:
    """By the id of their place on the page; those without data are absent."""
    runs = [run for run in results.runs if complete(run)]
    found = {
        "time": _times(summary),
        "timeline": _timeline(summary, results),
        "ttft": _cdf(
            summary, runs, lambda call: [call.ttft] if call.ttft is not None else [], "time to first token, ms"
        ),
        "itl": _cdf(summary, runs, lambda call: call.itl, "inter-token latency, ms"),
        "tpot": _contexts(summary, "tpot", "TPOT, dense / SFI"),
        "latency": _contexts(summary, "latency", "call latency, dense / SFI"),
        "parts": _parts(summary),
    }
    for figure in found.values():
        figure.update_layout(
            template=None,
            margin={"l": 8, "r": 12, "t": 8, "b": 8},
            legend={
                "orientation": "h",
                "yanchor": "bottom",
                "y": 1.02,
                "x": 0,
                "xanchor": "left",
                "traceorder": "normal",
            },
            paper_bgcolor="rgba(0,0,0,0)",
            plot_bgcolor="rgba(0,0,0,0)",
        )
        figure.update_xaxes(automargin=True)
        figure.update_yaxes(automargin=True, ticklabelstandoff=6)
    return {name: figure for name, figure in found.items() if figure.data}


def _times(summary: Summary) -> go.Figure:
    figure = go.Figure(layout={"barmode": "group", "bargap": 0.35, "height": 380})
    for mode in NAMES:
        cells = [cell for cell in summary.cells if cell.mode == mode]
        if not cells:
            continue
        bounds = [(c.time.mean or 0, c.time_interval) for c in cells]
        figure.add_bar(
            name=NAMES[mode],
            x=[unit(summary.header, cell.load) for cell in cells],
            y=[cell.time.mean for cell in cells],
            error_y={
                "array": [bound.high - mean if bound else 0 for mean, bound in bounds],
                "arrayminus": [mean - bound.low if bound else 0 for mean, bound in bounds],
                "color": GREY,
            },
            marker_color=COLOURS[mode][0],
            customdata=[(c.time.p50, c.time.p90, c.time.p99, c.time.n, c.failed) for c in cells],
            hovertemplate="mean %{y:.2f} s<br>p50 %{customdata[0]:.2f}, p90 %{customdata[1]:.2f}, "
            "p99 %{customdata[2]:.2f} s<br>n %{customdata[3]}, failed %{customdata[4]}",
        )
    tops: dict[float, float] = {}
    for c in summary.cells:
        top = c.time_interval.high if c.time_interval else c.time.mean or 0.0
        tops[c.load] = max(top, tops.get(c.load, 0.0))
    for pairing in summary.speed_up:
        if pairing.time:
            label = f"<b>{pairing.time.value:.2f}x</b>"
            figure.add_annotation(
                x=unit(summary.header, pairing.load),
                y=tops[pairing.load],
                text=label,
                showarrow=False,
                yshift=16,
                font_size=15,
            )
    loads = list(dict.fromkeys(cell.load for cell in summary.cells))
    places, labels = [unit(summary.header, load) for load in loads], [_label(summary, load) for load in loads]
    figure.update_xaxes(showgrid=False, tickvals=places, ticktext=labels)
    figure.update_yaxes(title="mean trajectory time, s", range=[0, 1.15 * max(tops.values(), default=0.0) or 1.0])
    return figure


def _label(summary: Summary, load: float) -> str:
    failed = [cell for cell in summary.cells if cell.load == load and cell.failed]
    notes = [f'<b style="color:{RED}">{NAMES[cell.mode]}: {cell.failed} failed</b>' for cell in failed]
    return "<br>".join([unit(summary.header, load), *notes])


def _timeline(summary: Summary, results: Results) -> go.Figure:
    """For each load the pair whose ratio is nearest to that load's: tool wait, first token and decode of every turn."""
    cells = by_cell(results.runs)
    rows: list[tuple[str, Run]] = []
    for pairing in summary.speed_up:
        pairs = complete_pairs(cells["dense", pairing.load], cells["sfi", pairing.load])
        if pairing.time and (pairs := [pair for pair in pairs if pair[1].seconds > 0]):
            typical = pairing.time.value
            pair = min(pairs, key=lambda pair: abs(pair[0].seconds / pair[1].seconds - typical))
            rows += [(f"{unit(summary.header, pairing.load)}, {NAMES[run.mode]}", run) for run in pair]
    figure = go.Figure(layout={"barmode": "overlay", "bargap": 0.25, "height": 120 + 42 * len(rows)})
    for mode in NAMES:
        decode, first = COLOURS[mode]
        for name, colour, where in (
            ("first token", first, lambda call: (call.start, call.ttft or 0.0)),
            ("decode", decode, lambda call: (call.start + (call.ttft or 0.0), call.decode_seconds)),
        ):
            figure.add_bar(
                **_segments([row for row in rows if row[1].mode == mode], where, f"{NAMES[mode]}, {name}"),
                marker_color=colour,
            )
    waits = _segments(rows, lambda call: (call.start - call.delay, call.delay), "tool wait")
    figure.add_bar(**waits, marker_color=LIGHT)
    figure.update_xaxes(title="s since the trajectory began")
    figure.update_yaxes(
        autorange="reversed", showgrid=False, categoryorder="array", categoryarray=[label for label, _ in rows]
    )
    return figure if rows else go.Figure()


def _segments(
    rows: list[tuple[str, Run]], where: Callable[[Call], tuple[float, float]], name: str
) -> dict[str, object]:
    spans = [(label, run, call, *where(call)) for label, run in rows for call in run.calls]
    return {
        "name": name,
        "orientation": "h",
        "y": [label for label, *_ in spans],
        "base": [round(start - run.start, 4) for _, run, _, start, _ in spans],
        "x": [round(length, 4) for *_, length in spans],
        "customdata": [
            (run.trajectory, call.turn, call.prompt_tokens, call.output_tokens) for _, run, call, *_ in spans
        ],
        "hovertemplate": f"{name} %{{x:.3f}} s<br>%{{customdata[0]}}, turn %{{customdata[1]}}<br>"
        "%{customdata[2]} prompt, %{customdata[3]} output tokens<extra></extra>",
    }


def _cdf(summary: Summary, runs: list[Run], values: Callable[[Call], list[float]], title: str) -> go.Figure:
    figure = go.Figure(layout={"height": 380})
    for (mode, load), cell in by_cell(runs).items():
        sample = [value for run in cell for call in run.calls for value in values(call)]
        if sample:
            figure.add_scatter(
                name=f"{NAMES[mode]}, {unit(summary.header, load)}",
                x=[float(f"{1e3 * x:.4g}") for x in np.quantile(sample, LEVELS)],
                y=LEVELS.round(4).tolist(),
                mode="lines",
                line={"color": COLOURS[mode][0], "dash": _by_load(summary, load, DASHES), "width": 2},
                hovertemplate="%{y:.1%} within %{x:.3~g} ms",
            )
    figure.update_xaxes(type="log", title=title, tickvals=TICKS, ticktext=[f"{tick:g}" for tick in TICKS])
    figure.update_yaxes(title="share", tickformat=".0%", range=[0, 1.01])
    return figure


def _contexts(summary: Summary, field: str, title: str) -> go.Figure:
    figure = go.Figure(layout={"height": 380})
    for load in sorted({bin.load for bin in summary.contexts}):
        found = [(bin, value) for bin in summary.contexts if bin.load == load and (value := getattr(bin, field))]
        ratios: list[Ratio] = [value for _, value in found]
        figure.add_scatter(
            name=unit(summary.header, load),
            x=[math.sqrt(bin.low * bin.high) for bin, _ in found],
            y=[value.value for value in ratios],
            error_y={
                "array": [value.interval.high - value.value if value.interval else 0 for value in ratios],
                "arrayminus": [value.value - value.interval.low if value.interval else 0 for value in ratios],
            },
            mode="lines+markers",
            line={"color": COLOURS["sfi"][0], "dash": _by_load(summary, load, DASHES)},
            marker={"symbol": _by_load(summary, load, SYMBOLS), "size": 8},
            customdata=[(bin.low, bin.high, bin.dense_calls, bin.sfi_calls) for bin, _ in found],
            hovertemplate="%{y:.2f}x<br>%{customdata[0]}–%{customdata[1]} prompt tokens<br>"
            "%{customdata[2]} dense calls, %{customdata[3]} SFI",
        )
    edges = sorted({edge for bin in summary.contexts for edge in (bin.low, bin.high)})
    figure.update_xaxes(type="log", title="prompt tokens", tickvals=edges, ticktext=list(map(_tokens, edges)))
    figure.update_yaxes(title=title)
    figure.add_hline(
        y=1, line={"color": COLOURS["dense"][0], "width": 2}, annotation={"text": "dense", "yanchor": "top"}
    )
    return figure


def _tokens(count: int) -> str:
    return f"{count // 1024}K" if count >= 1024 else str(count)


def _parts(summary: Summary) -> go.Figure:
    """Mean seconds of a trajectory, stacked; the tool wait is apart from its time."""
    cells = [cell for cell in summary.cells if cell.parts]
    label = {id(cell): f"{unit(summary.header, cell.load)}, {NAMES[cell.mode]}" for cell in cells}
    figure = go.Figure(layout={"barmode": "stack", "bargap": 0.25, "height": 120 + 42 * len(cells)})
    for name, field, mode, colour in _layers():
        shown = [cell for cell in cells if mode in (None, cell.mode)]
        if shown:
            figure.add_bar(
                name=name,
                orientation="h",
                y=[label[id(cell)] for cell in shown],
                x=[getattr(cell.parts, field) for cell in shown],
                marker_color=colour,
                hovertemplate="%{x:.2f} s",
            )
    figure.update_xaxes(title="mean s of a trajectory")
    figure.update_yaxes(autorange="reversed", showgrid=False, categoryorder="array", categoryarray=list(label.values()))
    return figure


def _layers() -> Iterator[tuple[str, str, Mode | None, str]]:
    for mode, (decode, first) in COLOURS.items():
        yield f"{NAMES[mode]}, first token", "first_token", mode, first
        yield f"{NAMES[mode]}, decode", "decode", mode, decode
    yield "other", "other", None, GREY
    yield "tool wait", "tool", None, LIGHT


def _by_load(summary: Summary, load: float, choices: tuple[str, ...]) -> str:
    loads = sorted({cell.load for cell in summary.cells})
    return choices[loads.index(load) % len(choices)]
