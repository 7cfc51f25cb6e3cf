"""What the report's figures share: colours and their legend."""

from collections.abc import Iterator
from dataclasses import dataclass

import plotly.graph_objects as go

from sfi_sglang.trajectory.headline import NAMES, unit
from sfi_sglang.trajectory.records import Mode
from sfi_sglang.trajectory.stats import Interval
from sfi_sglang.trajectory.summary import Summary

# Blue and vermilion, after Okabe and Ito's palette for colour-blind readers, light enough for a dark page.
# Full: decode, and the mode as a whole. Tint: until the first token.
COLOURS: dict[Mode, tuple[str, str]] = {"dense": ("#2f7fc1", "#a5cbe9"), "sfi": ("#e0692a", "#f5bf9b")}
GREY, LIGHT, RED = "#8b949e", "rgba(139,148,158,0.35)", "#d93a31"
DASHES, SYMBOLS = ("solid", "dash", "dot", "dashdot"), ("circle", "square", "diamond", "triangle-up")
STROKES = {"solid": "", "dash": "6 4", "dot": "2 3", "dashdot": "7 3 2 3"}  # SVG's


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
        if trace.showlegend is not False
    }
    return list(keys.values()) if len(keys) > 1 else []


def whiskers(values: list[float], intervals: list[Interval]) -> dict[str, object]:
    return {
        "array": [interval.high - value for value, interval in zip(values, intervals, strict=True)],
        "arrayminus": [value - interval.low for value, interval in zip(values, intervals, strict=True)],
    }


def row_label(summary: Summary, load: float, mode: Mode) -> str:
    return f"{unit(summary.header, load)}, {NAMES[mode]}"


def by_load(summary: Summary, load: float, choices: tuple[str, ...]) -> str:
    loads = sorted({cell.load for cell in summary.cells})
    return choices[loads.index(load) % len(choices)]


def layers() -> Iterator[tuple[str, str, Mode | None, str]]:
    """Of a trajectory's time: name, field of its parts, mode (None: both), colour."""
    for mode, (decode, first) in COLOURS.items():
        yield f"{NAMES[mode]}, first token", "first_token", mode, first
        yield f"{NAMES[mode]}, decode", "decode", mode, decode
    yield "other", "other", None, GREY
    yield "tool wait", "tool", None, LIGHT
