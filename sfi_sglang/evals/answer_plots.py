"""Figures of right answers: by length and depth, by a number of the request, by carry mode and agent program."""

from collections.abc import Sequence

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from sfi_sglang.evals.plot_parts import bars, colour, line
from sfi_sglang.evals.summary import DEPTHS, Depth, Summary
from sfi_sglang.evals.variants import DENSE
from sfi_sglang.report.plot_style import OTHERS

WORST_TO_BEST = [[0.0, "#b5403a"], [0.5, "#e9b44c"], [1.0, "#2f8f5b"]]
CELL, PANEL = 26, 250  # height of a cell, least width of a panel where there are many, pixels
AROUND = 110  # height of a row of panels beside its cells
FEW = 4  # panels that fit side by side on a page


def depth_maps(summary: Summary, task: str) -> go.Figure:
    """A panel for each kind and variant: share right by where the answer stands (up) and prompt length (across)."""
    found = [depth for depth in summary.depths if depth.task == task]
    kinds, variants = (list(dict.fromkeys(getattr(depth, name) for depth in found)) for name in ("kind", "variant"))
    if not found:
        return go.Figure()
    titles = [f"{kind}, {variant}" for kind in kinds for variant in variants]
    figure = make_subplots(
        len(kinds), len(variants), subplot_titles=titles, vertical_spacing=0.45 / len(kinds), horizontal_spacing=0.03
    )
    for row, kind in enumerate(kinds, 1):
        for column, variant in enumerate(variants, 1):
            mine = [depth for depth in found if (depth.kind, depth.variant) == (kind, variant)]
            figure.add_trace(_panel(mine), row, column)
            figure.update_yaxes(title="depth of the answer" if column == 1 else None, row=row, col=column)
            figure.update_yaxes(showticklabels=column == 1, row=row, col=column)
    figure.update_xaxes(title="prompt tokens", type="category", showgrid=False, title_standoff=4)
    figure.update_yaxes(showgrid=False, autorange="reversed")
    figure.update_annotations(font_size=12)
    figure.update_layout(
        margin={"t": 28},  # for the panels' titles
        height=len(kinds) * (AROUND + DEPTHS * CELL),
        width=PANEL * len(variants) if len(variants) > FEW else None,
        coloraxis={"cmin": 0, "cmax": 1, "colorscale": WORST_TO_BEST, "colorbar": _bar("right")},
    )
    return figure


def _panel(found: Sequence[Depth]) -> go.Heatmap:
    lengths = sorted({depth.length for depth in found})
    bins = sorted({(depth.low, depth.high) for depth in found})
    cells = {(depth.low, depth.length): depth for depth in found}
    rows = [[cells.get((low, length)) for length in lengths] for low, _ in bins]
    return go.Heatmap(
        x=[str(length) for length in lengths],
        y=[f"{low:.0%}–{high:.0%}" for low, high in bins],
        z=[[cell and cell.right / cell.n for cell in row] for row in rows],
        text=[[cell and f"{cell.right}/{cell.n}" for cell in row] for row in rows],
        texttemplate="%{text}",
        coloraxis="coloraxis",
        hovertemplate="%{text} right<br>%{x} tokens, answer at %{y}<extra></extra>",
    )


def _bar(title: str) -> dict[str, object]:
    return {"title": title, "tickformat": ".0%", "thickness": 12}


def answer_curve(summary: Summary, task: str, option: str, title: str) -> go.Figure:
    """Share right over a number of the request, a line for each kind and length; dashed: dense attention."""
    values = settings_of(summary, task, option)
    figure = go.Figure(layout={"height": 360})
    for number, row in enumerate(row for row in summary.rows if row.task == task and row.able):
        shade, name = OTHERS[number % len(OTHERS)], f"{row.kind}, {row.length} tokens"
        found = {share.variant: share.right for share in row.shares}
        points = [(str(value), found[label]) for label, value in values.items() if label in found]
        if len(points) < 2:
            continue
        line(figure, name, shade, points)
        if DENSE in found:
            dense = [(place, found[DENSE].model_copy(update={"low": None, "high": None})) for place, _ in points]
            line(figure, name, shade, dense, dashed=True)
    figure.update_xaxes(title=title, type="category")
    figure.update_yaxes(title="share right", tickformat=".0%")
    return figure


def settings_of(summary: Summary, task: str, option: str) -> dict[str, int]:
    """Labels of the variants of a task that differ from each other in one option's number alone, in its order."""
    asked = summary.header.settings.get(task, {}).get("variants", {})
    groups: dict[str, dict[str, int]] = {}
    for label, sfi in asked.items():
        if sfi and isinstance(sfi.get(option), int):
            rest = {name: value for name, value in sfi.items() if name not in (option, "min_gap")}
            groups.setdefault(str(sorted(rest.items())), {})[label] = sfi[option]
    largest = max(groups.values(), key=len, default={})
    return dict(sorted(largest.items(), key=lambda pair: pair[1]))


def right_bars(summary: Summary, task: str, title: str) -> go.Figure:
    """Share right by kind, a bar for each variant, with whiskers."""
    rows = [row for row in summary.rows if row.task == task]
    figure = go.Figure(layout={"barmode": "group", "bargap": 0.3, "height": 340})
    for number, variant in enumerate(dict.fromkeys(share.variant for row in rows for share in row.shares)):
        mine = [(row.kind, share) for row in rows for share in row.shares if share.variant == variant]
        notes = [f"{round(share.right.value * share.n)} of {share.n}" for _, share in mine]
        bars(figure, variant, colour(variant, number), [(kind, share.right) for kind, share in mine], notes)
    figure.update_xaxes(title=title, showgrid=False)
    figure.update_yaxes(title="share right", tickformat=".0%", rangemode="tozero")
    return figure
