"""How a number or a text of the summary becomes a field of a table, with the key under which the summary has it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sfi_sglang.report.modes import NAMES


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
    rows: Sequence[tuple[Field, ...]]


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


def row_keys(fields: dict[str, Any], name: str) -> list[str]:
    return [f"{name}.{i}" for i in range(len(_find(fields, name) or []))]


def make_table(title: str, note: str, columns: Columns, rows: list[str], summary: dict[str, Any]) -> Table:
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
