"""A wrong `sfi` value in words: each message begins with the field, `sfi.budget: ...`, and says what is expected."""

import difflib
import json
import re
from collections.abc import Iterable
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

MOST_NAMED = 3  # wrong fields in one message
LONGEST_SHOWN = 60  # characters of a value


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """What is wrong with a value of `model`, field by field."""
    found = [_explain_one(item, model) for item in error.errors()]
    more = [f"and {len(found) - MOST_NAMED} more"] if len(found) > MOST_NAMED else []
    return "; ".join(found[:MOST_NAMED] + more)


def field_of(message: str) -> str | None:
    """The field that a refusal's message begins with, None if it is not about `sfi`."""
    match = re.match(r"(sfi(?:\..*?)?): ", message, re.DOTALL)
    return match[1] if match else None


def shown(value: Any) -> str:
    """A value as its sender wrote it, shortened."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        text = repr(value)
    return _printable(text)


def guess(name: Any, known: Iterable[str]) -> str:
    """`, did you mean budget?`, or nothing if no known name is near."""
    near = difflib.get_close_matches(str(name), list(known), n=1)
    return f", did you mean {near[0]}?" if near else ""


def _explain_one(item: Any, model: type[BaseModel]) -> str:
    path = ".".join(("sfi", *map(str, item["loc"])))
    if item["type"] == "value_error":  # of a validator, in its own words; one that compares fields names its field
        return f"{path}{': ' if item['loc'] else '.'}{item['ctx']['error']}"
    if item["type"] == "string_unicode":
        return f"{path}: {shown(item['input'])} is not valid text"
    *parents, name = item["loc"]
    for parent in parents:
        model = model.model_fields[parent].annotation  # type: ignore[assignment]
    fields = model.model_fields
    if name in fields:
        return f"{path}: expected {_expected(fields[name])}, got {shown(item['input'])}"
    return f"{_printable(path)}: unknown option{guess(name, fields)} (options: {', '.join(fields)})"


def _expected(field: FieldInfo) -> str:
    if get_origin(field.annotation) is Literal:
        return "one of " + ", ".join(map(str, get_args(field.annotation)))
    if field.annotation is bool:
        return "true or false"
    bounds = {name: getattr(rule, name) for rule in field.metadata for name in ("ge", "le") if hasattr(rule, name)}
    return f"a whole number from {bounds['ge']} to {bounds['le']}"


def _printable(text: str) -> str:
    """One line that every JSON encoder takes, half a character included."""
    text = text if len(text) <= LONGEST_SHOWN else text[:LONGEST_SHOWN] + "..."
    return "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in text)
