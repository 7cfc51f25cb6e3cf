"""What the figures of reports share: colours, legends, whiskers, margins."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import plotly.graph_objects as go

from sfi_sglang.report.modes import Mode

# Blue and vermilion, after Okabe and Ito's palette for colour-blind readers, light enough for a dark page.
# Full: decode, and the mode as a whole. Tint: until the first token.
COLOURS: dict[Mode, tuple[str, str]] = {"dense": ("#2f7fc1", "#a5cbe9"), "sfi": ("#e0692a", "#f5bf9b")}
OTHERS = ("#1f9e77", "#c9609d", "#b8a000", "#56b4e9", "#7a68c4", "#8a5a3c")  # of what is neither
GREY, LIGHT, RED = "#8b949e", "rgba(139,148,158,0.35)", "#d93a31"
DASHES, SYMBOLS = ("solid", "dash", "dot", "dashdot"), ("circle", "square", "diamond", "triangle-up")
MARGIN = {"l": 8, "r": 12, "t": 8, "b": 8}  # pixels, where a figure has none of its own
STROKES = {"solid": "", "dash": "6 4", "dot": "2 3", "dashdot": "7 3 2 3"}  # SVG's


class Bounds(Protocol):
    """An interval."""

    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...


@dataclass(frozen=True)
class Key:
    """A line of a legend. stroke: the dashes of a line as SVG has them, None for an area."""

    name: str
    colour: str
    stroke: str | None


def legend(figure: go.Figure) -> list[Key]:
    """Shown by the page, not by Plotly: on a phone Plotly's hides entries. Empty for a single entry."""
    keys = {
        trace.name: Key(trace.name, trace.line.color, STROKES[trace.line.dash])
        if trace.type == "scatter"
        else Key(trace.name, trace.marker.color, None)
        for trace in figure.data
        if trace.type in ("scatter", "bar") and trace.showlegend is not False
    }
    return list(keys.values()) if len(keys) > 1 else []


def whiskers(values: Sequence[float], intervals: Iterable[Bounds]) -> dict[str, Any]:
    """Plotly's error bars from each value to both ends of its interval."""
    pairs = list(zip(values, intervals, strict=True))
    return {
        "array": [interval.high - value for value, interval in pairs],
        "arrayminus": [value - interval.low for value, interval in pairs],
    }


def finished(figures: Mapping[str, go.Figure]) -> dict[str, go.Figure]:
    """Those with data, with the page's margins and without Plotly's colours of text, grid and paper: those are the
    page's, light or dark."""
    for figure in figures.values():
        figure.update_layout(
            template=None,
            showlegend=False,
            margin={**MARGIN, **figure.layout.margin.to_plotly_json()},
            paper_bgcolor="rgba(0,0,0,0)",
            plot_bgcolor="rgba(0,0,0,0)",
        )
        figure.update_xaxes(automargin=True)
        figure.update_yaxes(automargin=True, ticklabelstandoff=6)
    return {name: figure for name, figure in figures.items() if figure.data}
