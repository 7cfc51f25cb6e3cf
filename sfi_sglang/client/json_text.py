"""JSON that somebody else wrote: the one reader of such files, and of what is wrong with them.

A file may be compressed by gzip and may begin with a byte order mark; its lines end at LF or CR LF alone, since JSON
strings may hold all else that Python takes for a line's end. Refused are bytes that are not UTF-8, half surrogate
pairs, more than 200 levels, numbers of more than 4300 digits and, in what a model checks, NaN and infinities.
"""

import codecs
import gzip
import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

GZIP = b"\x1f\x8b"
ANYTHING: TypeAdapter[Any] = TypeAdapter(Any)
Model = TypeVar("Model", bound=BaseModel)
Step = str | int  # to a part of a value: a key, or a number from 0


class FieldError(ValueError):
    """What a validator finds wrong deep in its value. field: the steps to it."""

    def __init__(self, message: str, *field: Step) -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True)
class Json:
    """A value and where it stands. data: the JSON that begins in line `line` of the file; place: steps to the value in
    what `data` holds."""

    value: Any
    path: Path
    data: bytes
    line: int
    place: tuple[Step, ...] = ()

    def part(self, *steps: Step) -> "Json":
        value = self.value
        for step in steps:
            value = value[step]
        return replace(self, value=value, place=(*self.place, *steps))

    def items(self, *steps: Step) -> list["Json"]:
        """The items of the list at `steps`.

        Raises:
            ValueError: no list.
        """
        found = self.part(*steps)
        if not isinstance(found.value, list):
            raise found.error("needs a list")
        return [found.part(number) for number in range(len(found.value))]

    def check(self, model: type[Model]) -> Model:
        """The value as a model.

        Raises:
            ValueError: a missing or wrong field; names file, line and field.
        """
        if not isinstance(self.value, dict):
            raise self.error("needs an object")
        try:
            checked = model.model_validate(self.value)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            deeper = getattr(first.get("ctx", {}).get("error"), "field", ())
            raise self.error(first["msg"].removeprefix("Value error, "), *first["loc"], *deeper) from None
        try:
            json.dumps(self.value, allow_nan=False)  # what the model leaves open may be sent on
        except ValueError:
            raise self.error("needs a finite number", *_not_finite(self.value)) from None
        return checked

    def error(self, message: str, *field: Step) -> ValueError:
        """What is wrong with a field, to be raised; it names file, line and field."""
        steps = (*self.place, *field)
        text = self.data.decode()
        line = self.line + text.count("\n", 0, _position(text, steps))
        return ValueError(": ".join(filter(None, [f"{self.path}:{line}", ".".join(map(str, steps)), message])))


def parse(text: bytes | str) -> Any:
    """
    Raises:
        ValueError: no JSON.
    """
    try:
        return ANYTHING.validate_json(text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text)
    except ValidationError as error:
        raise ValueError(error.errors(include_url=False)[0]["ctx"]["error"]) from None


def parse_line(data: bytes, path: Path, line: int) -> Json:
    """The value of a file's bytes that begin in line `line`.

    Raises:
        ValueError: no JSON; names file and line.
    """
    try:
        return Json(parse(data), path, data, line)
    except ValueError as error:
        try:
            data.decode()
        except UnicodeDecodeError as wrong:
            where = line + data.count(b"\n", 0, wrong.start)
            raise ValueError(f"{path}:{where}: not UTF-8 text: {wrong.reason}") from None
        why, row = str(error), 1
        if found := re.fullmatch(r"(.*) at line (\d+) column (\d+)", why):
            why, row = f"{found[1]} at column {found[3]}", int(found[2])
        raise ValueError(f"{path}:{line + row - 1}: not JSON: {why}") from None


def read_json(path: Path) -> list[Json]:
    """The values of a file, one or more: one a line, or a single one over several lines. Blank lines are left out.

    Raises:
        ValueError: no file, or no JSON; names file and line.
    """
    data = read_bytes(path)
    if not (lines := numbered(data)):
        raise ValueError(f"{path}:1: empty")
    try:
        first = parse_line(lines[0][1], path, lines[0][0])
    except ValueError:
        return [parse_line(data, path, 1)]
    return [first, *(parse_line(line, path, number) for number, line in lines[1:])]


def numbered(data: bytes) -> list[tuple[int, bytes]]:
    """Lines that are not blank, with their numbers from 1."""
    return [(number, line) for number, line in enumerate(data.split(b"\n"), 1) if line.strip()]


def read_bytes(path: Path) -> bytes:
    """What a file holds, decompressed and without a byte order mark.

    Raises:
        ValueError: it cannot be read; names it and says why.
    """
    try:
        data = path.read_bytes()
        data = gzip.decompress(data) if data.startswith(GZIP) else data
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: broken gzip: {error}") from None
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise ValueError(f"{path}: a folder, not a file") from None
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None
    return data.removeprefix(codecs.BOM_UTF8)


def _not_finite(value: Any) -> tuple[Step, ...]:
    """Steps to the first number without a finite value."""
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in members:
        if isinstance(item, float) and not isfinite(item):
            return (key,)
        if found := _not_finite(item):
            return (key, *found)
    return ()


def _position(text: str, steps: tuple[Step, ...]) -> int:
    """Index in `text`, which is JSON, of the value at `steps`. Steps that lead nowhere, as to a missing field, are
    left out."""
    found = _blank(text, 0)
    for step in steps:
        found = next((at for key, at in _members(text, found) if key == step), found)
    return found


def _members(text: str, start: int) -> Iterator[tuple[Step, int]]:
    """Keys or numbers of the members of the object or list at `start`, with the indices of their values."""
    if text[start] not in "{[":
        return
    value, number, at = json.JSONDecoder(strict=False).raw_decode, 0, _blank(text, start + 1)
    while text[at] not in "}]":
        key: Step = number
        if text[start] == "{":
            key, at = value(text, at)
            at = _blank(text, _blank(text, at) + 1)  # the colon
        yield key, at
        at = _blank(text, value(text, at)[1])
        number, at = number + 1, _blank(text, at + 1) if text[at] == "," else at


def _blank(text: str, at: int) -> int:
    """The index of the first character from `at` on that is not blank."""
    while at < len(text) and text[at] in " \t\r\n":
        at += 1
    return at
