"""Files that long work leaves behind: a header, then one JSON line a result. Work that was broken off goes on with its
file, from the last whole line."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

from sfi_sglang.client.call import Record
from sfi_sglang.client.json_text import numbered, parse_line, read_bytes

Header = TypeVar("Header", bound=Record)
Line = TypeVar("Line", bound=Record)


def begun(path: Path) -> bool:
    """Whether there is something to go on with."""
    return path.exists() and (not path.is_file() or path.stat().st_size > 0)


def read(path: Path, header: type[Header], line: type[Line], owner: str) -> tuple[Header, list[Line]]:
    """A last line without its end is left out if a break cut it short. owner: the command whose file it must be.

    Raises:
        ValueError: no such file; names file, line and field.
    """
    data = read_bytes(path)
    lines: list[Line] = []
    try:
        if not (found := numbered(data)):
            raise ValueError(f"{path}:1: empty")
        first = parse_line(found[0][1], path, found[0][0]).check(header)
        last = None if data.endswith(b"\n") else found[-1]
        for row in found[1:]:
            try:
                lines.append(parse_line(row[1], path, row[0]).check(line))
            except ValueError:
                if row is not last:
                    raise
    except ValueError as error:
        raise ValueError(f"{error} (no file of {owner}?)") from None
    return first, lines


def write(path: Path, records: Iterable[Record]) -> None:
    """Begin the file anew. A break leaves the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.new")
    new.write_text("".join(map(_line, records)), encoding="utf-8")
    os.replace(new, path)


def append(path: Path, record: Record) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(_line(record))


def _line(record: Record) -> str:
    return f"{record.model_dump_json(exclude_defaults=True)}\n"
