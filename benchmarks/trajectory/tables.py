"""The summary as tables, for Markdown and HTML alike. Every number is read from the summary by its key."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sfi_sglang.trajectory.compare import flat
from sfi_sglang.trajectory.headline import NAMES, UNITS
from sfi_sglang.trajectory.summary import Summary


@dataclass(frozen=True)
class Part:
    """Text of a cell. key: path in the summary; the text shows `scale` times the number found there."""

    text: str
    key: str = ""
    scale: float = 1.0


@dataclass(frozen=True)
class Field:
    parts: tuple[Part, ...]
    bad: bool = False
    is_text: bool = False

    @property
    def text(self) -> str:
        return "".join(part.text for part in self.parts)


@dataclass(frozen=True)
class Table:
    title: str
    note: str
    head: tuple[str, ...]
    rows: list[tuple[Field, ...]]


def number(value: float) -> str:
    """Three digits at least."""
    return f"{value:,.0f}" if abs(value) >= 99.95 else f"{value:#.3g}"


FORMATS: dict[str, tuple[float, Callable[[Any], str]]] = {
    "seconds": (1.0, number),
    "ms": (1e3, number),
    "percent": (100.0, lambda value: f"{value:.1f}%"),
    "count": (1.0, lambda value: f"{value:,}"),
    "load": (1.0, lambda value: f"{value:g}"),
    "ratio": (1.0, lambda value: f"{value:.2f}x"),
    "bound": (1.0, lambda value: f"{value:.2f}"),
    "text": (1.0, str),
    "mode": (1.0, lambda value: NAMES[value]),
}
Columns = tuple[tuple[str, str, str], ...]  # title, path below the row, format
CELL: Columns = (("mode", "mode", "mode"),)
TIME: Columns = (
    *CELL,
    ("complete", "time.n", "count"),
    ("failed", "failed", "failed"),
    ("mean, s", "time.mean", "seconds"),
    ("95% interval", "time_interval", "interval seconds"),
    ("p50", "time.p50", "seconds"),
    ("p90", "time.p90", "seconds"),
    ("p99", "time.p99", "seconds"),
    ("decode share", "decode_share", "percent"),
    ("tool wait, s", "tool.mean", "seconds"),
)
PAIRED: Columns = (
    ("ratio", "time.value", "ratio"),
    ("95% interval", "time.interval", "interval bound"),
    ("pairs", "pairs", "count"),
    ("trajectories", "time.trajectories", "count"),
    ("failed pairs", "failed", "failed"),
    ("unmatched runs", "unmatched", "count"),
)
LATENCY: Columns = (
    *CELL,
    ("calls", "calls", "count"),
    ("TTFT p50, ms", "ttft.p50", "ms"),
    ("p99", "ttft.p99", "ms"),
    ("ITL p50, ms", "itl.p50", "ms"),
    ("p99", "itl.p99", "ms"),
    ("TPOT p50, ms", "tpot.p50", "ms"),
    ("p99", "tpot.p99", "ms"),
)
THROUGHPUT: Columns = (
    *CELL,
    ("output tokens/s", "output_tokens_per_second", "seconds"),
    ("requests/s", "requests_per_second", "seconds"),
    ("goodput, trajectories/min", "goodput", "seconds"),
    ("wall time, s", "wall", "seconds"),
)
SUCCESS: Columns = (
    *CELL,
    ("right", "success.successes", "count"),
    ("of", "success.n", "count"),
    ("rate", "success.rate", "percent"),
    ("95% interval", "success.interval", "interval percent"),
)
TOKENS: Columns = (
    *CELL,
    ("prompt", "prompt_tokens", "count"),
    ("output", "output_tokens", "count"),
    ("cached", "cached_tokens", "count"),
    ("inherited", "inherited_tokens", "count"),
    ("slow steps", "slow_step_ratio", "percent"),
    ("coverage", "coverage", "percent"),
)
CONTEXTS: Columns = (
    ("prompt tokens from", "low", "count"),
    ("below", "high", "count"),
    ("calls, dense", "dense_calls", "count"),
    ("SFI", "sfi_calls", "count"),
    ("TPOT ratio", "tpot.value", "ratio"),
    ("95% interval", "tpot.interval", "interval bound"),
    ("latency ratio", "latency.value", "ratio"),
    ("95% interval", "latency.interval", "interval bound"),
)
FAILURES: Columns = (
    *CELL,
    ("repeat", "repeat", "count"),
    ("trajectory", "trajectory", "text"),
    ("turn", "turn", "count"),
    ("error", "error", "failed"),
)
DIFFERENCES: Columns = (("field", "field", "text"), ("this file", "this", "text"), ("the other", "other", "text"))


def tables(summary: Summary) -> list[Table]:
    """Those that have rows."""
    fields = summary.model_dump(mode="json")
    slo, load = summary.slo, (UNITS[summary.header.arrivals][1], "load", "load")
    live = summary.header.history == "live"
    cells = _keys(fields, "cells")
    found = [
        _table(
            "Dense over SFI",
            "Mean trajectory time of dense over that of SFI, on trajectories and repeats complete in both; above 1 SFI "
            "is faster. The interval resamples trajectories, needs three, and is too narrow where they ran together "
            "once: repeats hold the spread between runs.",
            (load, *PAIRED),
            _keys(fields, "speed_up"),
            fields,
        ),
        _table(
            "Against the other file",
            "Mean trajectory time in the other file over that in this one; above 1 this one is faster.",
            (load, *CELL, *PAIRED),
            _keys(fields, "comparison.cells"),
            fields,
        ),
        _table(
            "What differs between the files",
            "",
            DIFFERENCES,
            _keys(fields, "comparison.differences"),
            fields,
        ),
        _table("Failures", "", (load, *FAILURES), _keys(fields, "failures"), fields),
        _table("Trajectory time", "Without tool waits; failed ones have no time.", (load, *TIME), cells, fields),
        _table("Right answers", "A failed trajectory is not right.", (load, *SUCCESS), cells if live else [], fields),
        _table(
            "Latency per call",
            "TTFT: first token, queue included. ITL: between chunks of text; its p99 shows slow steps. "
            "TPOT: mean per token after the first.",
            (load, *LATENCY),
            cells,
            fields,
        ),
        _table(
            "Throughput",
            f"Complete trajectories over the wall time of all. Goodput: all calls with TTFT <= {slo.ttft:g} s and "
            f"TPOT <= {slo.tpot * 1e3:g} ms.",
            (load, *THROUGHPUT),
            cells,
            fields,
        ),
        _table(
            "Tokens",
            "Of complete trajectories; slow steps: share of SFI's decode steps; coverage: the attention mass that the "
            "memory would have caught at those, mean over calls.",
            (load, *TOKENS),
            cells,
            fields,
        ),
        _table(
            "Speed-up by context length",
            "Dense over SFI, calls of pairs complete in both modes.",
            (load, *CONTEXTS),
            _keys(fields, "contexts"),
            fields,
        ),
    ]
    return [table for table in found if table.rows]


def origin(summary: Summary) -> list[tuple[str, str]]:
    """Where the numbers come from, as names and values."""
    header = summary.header.model_dump(mode="json", exclude={"provenance", "settings"})
    return [
        (name, str(value))
        for part in (summary.header.provenance, header, summary.header.settings)
        for name, value in flat(part).items()
    ]


def _keys(fields: dict[str, Any], name: str) -> list[str]:
    return [f"{name}.{i}" for i in range(len(_find(fields, name) or []))]


def _table(title: str, note: str, columns: Columns, rows: list[str], summary: dict[str, Any]) -> Table:
    head = tuple(title for title, _, _ in columns)
    return Table(
        title, note, head, [tuple(_field(summary, f"{row}.{path}", kind) for _, path, kind in columns) for row in rows]
    )


def _field(summary: dict[str, Any], key: str, kind: str) -> Field:
    value = _find(summary, key)
    bad, words = kind == "failed" and bool(value), kind in ("text", "mode") or isinstance(value, str)
    if kind == "failed":
        kind = "text" if words else "count"
    if value is None:
        return Field((Part("too few" if kind.startswith("interval ") else "–"),), is_text=words)
    if kind.startswith("interval "):
        low, high = (_part(f"{key}.{end}", value[end], kind.split()[1]) for end in ("low", "high"))
        return Field((low, Part("–"), high))
    return Field((_part(key, value, kind),), bad, words)


def _part(key: str, value: Any, kind: str) -> Part:
    scale, text = FORMATS[kind]
    return Part(text(value if scale == 1 else value * scale), key, scale)


def _find(fields: Any, key: str) -> Any:
    for name in key.split("."):
        if fields is None:
            return None
        fields = fields[int(name)] if isinstance(fields, list) else fields[name]
    return fields
