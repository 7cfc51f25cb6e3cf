"""Where the numbers come from, in words: the header of a result file, and what differs between two headers."""

from collections.abc import Iterable
from typing import Any

from sfi_sglang.report.fields import Field, Part, Table
from sfi_sglang.report.modes import NAMES
from sfi_sglang.trajectory.compare import Comparison, flat
from sfi_sglang.trajectory.headline import UNITS
from sfi_sglang.trajectory.records import Header

# Dotted names of the header's fields; a prefix names all that have no name of their own.
FIELDS = {
    "history": "history",
    "arrivals": "arrivals",
    "cache": "prefix cache",
    "provenance.server": "server started by",
    "settings.sfi": "SFI options",
    "settings.limit": "trajectories taken",
    "settings.tool_scale": "factor on tool waits",
    "settings.seed": "seed of arrivals",
    "settings.planned": "told which tool to call",
    "settings.workload.calls_left_out": "calls left out, too long",
    "settings.workload.extra_not_used": "lines with fields not used",
    "settings.workload.python": "texts from the library of Python",
    "settings.workload.settings.delay": "preset's tool waits, shortest and longest in s",
}
PREFIXES = {
    "provenance.versions.": "version of ",
    "settings.sfi.": "SFI option ",
    "settings.workload.settings.": "preset's ",
    "settings.workload.": "",
    "settings.": "",
    "provenance.": "",
}
VALUES = {
    ("history", "fixed"): "fixed: recorded contexts, replies forced to the recorded length",
    ("history", "live"): "live: the model's replies are fed back",
    ("arrivals", "closed"): "closed loop: a client begins its next trajectory when one has ended",
    ("arrivals", "poisson"): "Poisson, at a rate",
    ("arrivals", "trace"): "as recorded in the trace, sped up",
    ("cache", "cold"): "emptied before every cell",
    ("cache", "warm"): "emptied before every cell, then the first prompts prefilled",
    ("settings.sfi", True): "on, all at their defaults",
    ("settings.limit", None): "all",
    ("settings.workload.settings.max_context", None): "no limit",
}


def name_of(field: str) -> str:
    """A header's field as its reader calls it."""
    if field in FIELDS:
        return FIELDS[field]
    prefix = next(filter(field.startswith, PREFIXES), "")
    return PREFIXES.get(prefix, "") + field.removeprefix(prefix).replace("_", " ").replace(".", ", ")


def value_of(field: str, value: Any) -> str:
    if isinstance(value, str | bool | None) and (field, value) in VALUES:
        return VALUES[field, value]
    if field == "settings.limit":
        return f"the first {value}"
    if value is None:
        return "not installed" if field.startswith("provenance.versions.") else "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if field == "settings.modes" and hasattr(value, "split"):
        return _joined(NAMES.get(mode, mode) for mode in value.split(","))
    if isinstance(value, dict | list):
        return _joined(value_of("", item) for item in value) if value else "none"
    return f"{value:,g}" if isinstance(value, float) else str(value)


def origin(header: Header) -> list[tuple[str, str]]:
    """Names and values, what ran first and then where."""
    described = header.model_dump(mode="json")
    ordered = {**described, "settings": described.pop("settings"), "provenance": described.pop("provenance")}
    ordered["loads"] = f"{value_of('', header.loads)} ({UNITS[header.arrivals][1]})"
    return [(name_of(field), value_of(field, value)) for field, value in flat(ordered).items()]


def difference_table(comparison: Comparison | None) -> Table:
    rows = [
        tuple(
            Field((Part(text),), is_text=True)
            for text in (name_of(each.field), _side(each.field, each.this), _side(each.field, each.other))
        )
        for each in (comparison.differences if comparison else [])
    ]
    return Table("What differs between the files", "", ("", "this file", "the other"), rows)


def _side(field: str, value: Any) -> str:
    """None may also mean that a file has no such field."""
    return "–" if value is None else value_of(field, value)


def _joined(texts: Iterable[str]) -> str:
    return ", ".join(texts)
