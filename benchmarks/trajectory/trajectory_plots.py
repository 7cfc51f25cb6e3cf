"""Figures of whole trajectories: mean times, one trajectory turn by turn, what the time went to."""

from collections.abc import Callable

import plotly.graph_objects as go

from sfi_sglang.client.call import Call
from sfi_sglang.report.modes import NAMES
from sfi_sglang.report.plot_style import COLOURS, GREY, LIGHT, RED, whiskers
from sfi_sglang.trajectory.headline import unit
from sfi_sglang.trajectory.idle import idle
from sfi_sglang.trajectory.pairing import complete_pairs
from sfi_sglang.trajectory.plot_style import layers, row_label
from sfi_sglang.trajectory.records import Results, Run
from sfi_sglang.trajectory.summary import SpeedUp, Summary, by_cell


def mean_times(summary: Summary) -> go.Figure:
    """Bars of both modes at every load, with whiskers where there is an interval, and the ratio above them."""
    figure = go.Figure(layout={"barmode": "group", "bargap": 0.35, "height": 380})
    for mode in NAMES:
        mine = [cell for cell in summary.cells if cell.mode == mode]
        without = [cell for cell in mine if not cell.time_interval]
        for cells in filter(None, ([cell for cell in mine if cell.time_interval], without)):
            means = [cell.time.mean or 0.0 for cell in cells]
            intervals = [cell.time_interval for cell in cells if cell.time_interval]
            figure.add_bar(
                name=NAMES[mode],
                offsetgroup=mode,
                x=[unit(summary.header, cell.load) for cell in cells],
                y=[cell.time.mean for cell in cells],
                error_y={**whiskers(means, intervals), "color": GREY} if intervals else None,
                marker_color=COLOURS[mode][0],
                customdata=[(c.time.p50, c.time.p90, c.time.p99, c.time.n, c.failed) for c in cells],
                hovertemplate="mean %{y:.2f} s<br>p50 %{customdata[0]:.2f}, p90 %{customdata[1]:.2f}, "
                "p99 %{customdata[2]:.2f} s<br>n %{customdata[3]}, failed %{customdata[4]}",
            )
    tops: dict[float, float] = {}
    for cell in summary.cells:
        top = cell.time_interval.high if cell.time_interval else cell.time.mean or 0.0
        tops[cell.load] = max(top, tops.get(cell.load, 0.0))
    for pairing in summary.speed_up:
        if pairing.time:
            _ratio_above(figure, unit(summary.header, pairing.load), tops[pairing.load], pairing, pairing.time.value)
    loads = list(dict.fromkeys(cell.load for cell in summary.cells))
    places, labels = [unit(summary.header, load) for load in loads], [_label(summary, load) for load in loads]
    figure.update_xaxes(showgrid=False, tickvals=places, ticktext=labels)
    figure.update_yaxes(title="mean trajectory time, s", range=[0, 1.2 * max(tops.values(), default=0.0) or 1.0])
    return figure


def _ratio_above(figure: go.Figure, place: str, top: float, pairing: SpeedUp, value: float) -> None:
    """A ratio that is none of SFI's is grey and says so."""
    never = pairing.idle == pairing.pairs
    text = f"<b>{value:.2f}x</b>" + ("<br><sup>SFI never acted</sup>" if never else "")
    figure.add_annotation(
        x=place,
        y=top,
        text=text,
        showarrow=False,
        yanchor="bottom",
        yshift=4,
        font={"size": 15, **({"color": GREY} if never else {})},
    )


def _label(summary: Summary, load: float) -> str:
    failed = [cell for cell in summary.cells if cell.load == load and cell.failed]
    notes = [f'<b style="color:{RED}">{NAMES[cell.mode]}: {cell.failed} failed</b>' for cell in failed]
    return "<br>".join([unit(summary.header, load), *notes])


def timeline(summary: Summary, results: Results) -> go.Figure:
    """For each load the pair whose ratio is nearest to that load's: tool wait, first token and decode of every turn."""
    cells = by_cell(results.runs)
    rows: list[tuple[str, Run]] = []
    for pairing in summary.speed_up:
        pairs = complete_pairs(cells["dense", pairing.load], cells["sfi", pairing.load])
        if pairing.time and (pairs := [pair for pair in pairs if pair[1].seconds > 0]):
            typical = pairing.time.value
            pair = min(pairs, key=lambda pair: abs(pair[0].seconds / pair[1].seconds - typical))
            never = " (never acted)" if idle(pair[1].calls) else ""
            rows += [
                (row_label(summary, pairing.load, "dense"), pair[0]),
                (row_label(summary, pairing.load, "sfi") + never, pair[1]),
            ]
    figure = go.Figure(layout={"barmode": "overlay", "bargap": 0.25, "height": 80 + 42 * len(rows)})
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


def parts_of_time(summary: Summary) -> go.Figure:
    """Mean seconds of a trajectory, stacked; the tool wait is apart from its time."""
    rows = [(row_label(summary, cell.load, cell.mode), cell.mode, cell.parts) for cell in summary.cells if cell.parts]
    figure = go.Figure(layout={"barmode": "stack", "bargap": 0.25, "height": 80 + 42 * len(rows)})
    for name, field, mode, colour in layers():
        shown = [(label, parts) for label, its, parts in rows if mode in (None, its)]
        if shown:
            figure.add_bar(
                name=name,
                orientation="h",
                y=[label for label, _ in shown],
                x=[getattr(parts, field) for _, parts in shown],
                marker_color=colour,
                hovertemplate="%{x:.2f} s",
            )
    figure.update_xaxes(title="mean s of a trajectory")
    figure.update_yaxes(autorange="reversed", showgrid=False, categoryorder="array", categoryarray=[r[0] for r in rows])
    return figure
