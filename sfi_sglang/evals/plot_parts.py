"""Lines and bars of estimates, and the colours of variants."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from sfi_sglang.evals.statistics import Estimate
from sfi_sglang.evals.summary import AS_SERVED
from sfi_sglang.evals.variants import DENSE
from sfi_sglang.report.plot_style import COLOURS, GREY, OTHERS, whiskers

Points = Sequence[tuple[str, Estimate]]  # place on the axis, value there


@dataclass(frozen=True)
class _Ends:
    low: float
    high: float


def colour(variant: str, number: int) -> str:
    """number: of the variant in its figure, for those that are neither dense nor SFI as served."""
    if variant == DENSE:
        return COLOURS["dense"][0]
    return COLOURS["sfi"][0] if variant in AS_SERVED else OTHERS[number % len(OTHERS)]


def line(figure: go.Figure, name: str, shade: str, points: Points, dashed: bool = False) -> None:
    """dashed: a reference, without marks and without a place in the legend."""
    figure.add_scatter(
        name=name,
        showlegend=not dashed,
        x=[place for place, _ in points],
        y=[round(estimate.value, 5) for _, estimate in points],
        error_y=None if dashed else _whiskers(points),
        mode="lines" if dashed else "lines+markers",
        line={"color": shade, "dash": "dash" if dashed else "solid", "width": 2},
        marker={"size": 8},
        hovertemplate=f"{name}{', dense' if dashed else ''}: %{{y}}<br>%{{x}}<extra></extra>",
    )


def bars(figure: go.Figure, name: str, shade: str, points: Points, notes: Sequence[str]) -> None:
    figure.add_bar(
        name=name,
        x=[place for place, _ in points],
        y=[round(estimate.value, 5) for _, estimate in points],
        error_y=_whiskers(points),
        marker_color=shade,
        customdata=list(notes),
        hovertemplate=f"{name}: %{{y}} (%{{customdata}})<br>%{{x}}<extra></extra>",
    )


def _whiskers(points: Points) -> dict[str, Any]:
    """None where an interval is not known."""
    values = [estimate.value for _, estimate in points]
    ends = [
        _Ends(value if estimate.low is None else estimate.low, value if estimate.high is None else estimate.high)
        for value, (_, estimate) in zip(values, points, strict=True)
    ]
    return {**whiskers(values, ends), "color": GREY, "thickness": 1.2}
