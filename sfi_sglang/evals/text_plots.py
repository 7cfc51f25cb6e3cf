"""Figures of continued texts: agreement by kind of text and by the age of the selection, coverage of every head."""

from collections.abc import Callable, Iterable

import plotly.graph_objects as go

from sfi_sglang.evals.answer_plots import settings_of
from sfi_sglang.evals.continued import AGES, Agreement, Since, age_name
from sfi_sglang.evals.plot_parts import bars, colour, line
from sfi_sglang.evals.statistics import Estimate
from sfi_sglang.evals.summary import Summary
from sfi_sglang.evals.variants import DENSE
from sfi_sglang.report.plot_style import COLOURS, OTHERS

SHARE, NATS = "share that dense would choose", "divergence, nats a token"
LOW_TO_HIGH = [[0.0, "#b5403a"], [0.5, "#e9b44c"], [1.0, "#2f8f5b"]]
ROW = 16  # height of a layer, pixels


def chosen(found: Agreement | Since) -> Estimate:
    return found.chosen


def divergence(found: Agreement | Since) -> Estimate:
    return found.divergence


def by_kind(summary: Summary, value: Callable[[Agreement | Since], Estimate]) -> go.Figure:
    figure = go.Figure(layout={"barmode": "group", "bargap": 0.3, "height": 340})
    for number, variant in enumerate(_variants(summary.agreement)):
        mine = [found for found in summary.agreement if found.variant == variant]
        notes = [f"{found.texts} texts" for found in mine]
        bars(figure, variant, colour(variant, number), [(found.kind, value(found)) for found in mine], notes)
    figure.update_xaxes(title="kind of text", showgrid=False)
    _as_values(figure, summary.agreement, value)
    return figure


def by_age(summary: Summary, value: Callable[[Agreement | Since], Estimate]) -> go.Figure:
    """A line for each variant over tokens since the last refresh; dashed: dense attention against itself."""
    figure = go.Figure(layout={"height": 360})
    names = [age_name(*age) for age in AGES]
    for number, variant in enumerate(_variants(summary.since_refresh), 1):
        mine = [found for found in summary.since_refresh if found.variant == variant]
        line(figure, variant, colour(variant, number), [(found.age, value(found)) for found in mine])
    dense = [found for found in summary.agreement if found.variant == DENSE]
    if figure.data and dense:
        tokens = sum(found.tokens for found in dense)
        mean = sum(value(found).value * found.tokens for found in dense) / tokens
        level = Estimate(value=mean, low=None, high=None)
        line(figure, DENSE, COLOURS["dense"][0], [(name, level) for name in names], dashed=True)
        figure.data[-1].showlegend = True
    figure.update_xaxes(title="tokens since the last refresh", type="category", categoryarray=names)
    _as_values(figure, summary.since_refresh, value)
    return figure


def agreement_curve(summary: Summary, option: str, title: str) -> go.Figure:
    """Share chosen over a number of the request, a line for each kind of text; dashed: dense against itself."""
    values = settings_of(summary, "agreement", option)
    figure = go.Figure(layout={"height": 360})
    for number, kind in enumerate(dict.fromkeys(found.kind for found in summary.agreement)):
        mine = {found.variant: found.chosen for found in summary.agreement if found.kind == kind}
        points = [(str(value), mine[label]) for label, value in values.items() if label in mine]
        if len(points) < 2:
            continue
        line(figure, kind, OTHERS[number % len(OTHERS)], points)
        if DENSE in mine:
            level = Estimate(value=mine[DENSE].value, low=None, high=None)
            line(figure, kind, OTHERS[number % len(OTHERS)], [(place, level) for place, _ in points], dashed=True)
    figure.update_xaxes(title=title, type="category")
    figure.update_yaxes(title=SHARE, tickformat=".1%")
    return figure


def coverage_map(summary: Summary, variant: str) -> go.Figure:
    """Layers down, KV heads across."""
    mine = {(found.layer, found.head): found.coverage.value for found in summary.coverage if found.variant == variant}
    layers, heads = (sorted({place[i] for place in mine}) for i in (0, 1))
    figure = go.Figure(layout={"height": 130 + ROW * len(layers)})
    if mine:
        figure.add_heatmap(
            x=heads,
            y=layers,
            z=[[round(mine[layer, head], 4) for head in heads] for layer in layers],
            zmin=0,
            zmax=1,
            colorscale=LOW_TO_HIGH,
            colorbar={"title": "caught", "tickformat": ".0%", "thickness": 12},
            hovertemplate="layer %{y}, KV head %{x}: %{z:.1%}<extra></extra>",
        )
    figure.update_xaxes(title=f"KV head ({variant})", dtick=1 if len(heads) <= 16 else None, showgrid=False)
    figure.update_yaxes(title="layer", autorange="reversed", dtick=1 if len(layers) <= 16 else 5, showgrid=False)
    return figure


def _variants(found: Iterable[Agreement | Since]) -> list[str]:
    return list(dict.fromkeys(entry.variant for entry in found))


def _as_values(
    figure: go.Figure, found: Iterable[Agreement | Since], value: Callable[[Agreement | Since], Estimate]
) -> None:
    """The axis of a share begins where there is something to see: all of them are near 1."""
    if value is divergence:
        figure.update_yaxes(title=NATS, rangemode="tozero")
        return
    ends = [end for entry in found if (end := entry.chosen.value if entry.chosen.low is None else entry.chosen.low)]
    figure.update_yaxes(
        title=f"{SHARE} (cut axis)", tickformat=".1%", range=[max(0.0, min(ends, default=0.0) - 0.02), 1.0]
    )
