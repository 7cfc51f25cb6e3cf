"""What a report says, in Markdown and on its page alike, and how its files are written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sfi_sglang.report.fields import Table


@dataclass(frozen=True)
class Alarm:
    """Something that a reader must know before any number: `what`, in bold, and what follows from it."""

    what: str
    why: str = ""


@dataclass(frozen=True)
class Content:
    """eyebrow: a line above the headline, note: one below, both on the page only. origin: names and values of where the
    numbers come from."""

    title: str
    eyebrow: str
    headline: str
    note: str
    alarms: Sequence[Alarm]
    tables: Sequence[Table]
    origin: Sequence[tuple[str, str]]


def write_files(folder: Path, contents: Mapping[str, str]) -> list[Path]:
    """contents: by the file's name."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_text(content, encoding="utf-8")
    return [folder / name for name in contents]
