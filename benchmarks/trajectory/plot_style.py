"""What only the figures of trajectories share: labels of their rows, and what stands for a load."""

from collections.abc import Iterator

from sfi_sglang.report.modes import NAMES, Mode
from sfi_sglang.report.plot_style import COLOURS, GREY, LIGHT
from sfi_sglang.trajectory.headline import unit
from sfi_sglang.trajectory.summary import Summary


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
