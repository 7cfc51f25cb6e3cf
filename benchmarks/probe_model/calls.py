"""Results of tools and later calls whose arguments must be copied out of them, in several notations."""

import json
import random
from collections.abc import Sequence
from typing import Any

from benchmarks.probe_model import phrases
from benchmarks.probe_model.puzzle import Ask, Puzzle
from benchmarks.probe_model.values import SHORT, mixed, pick, scalar
from benchmarks.probe_model.words import ACTIONS, FIELDS

CUT = "\0"  # where a written call may be cut: after it, the model goes on


def calls(rng: random.Random, things: Sequence[str], resources: Sequence[str]) -> list[Puzzle]:
    """One result a resource; the call after it takes some of its fields."""
    result, notation = rng.choice(phrases.RESULTS), rng.choice(NOTATIONS)
    made = []
    for resource in resources:
        key = rng.choice((resource, f"{resource}_id", "ref", "number"))
        record: dict[str, Any] = {key: rng.choice((mixed, mixed, pick(rng, SHORT)))(rng)}
        record |= {name: scalar(rng) for name in rng.sample(FIELDS, rng.randint(0, 4)) if name != key}
        if rng.random() < 0.2:
            record = dict(rng.sample(list(record.items()), len(record)))
        first, second = rng.sample(ACTIONS, 2)
        fact = result.format(f=f"{first}_{resource}", r=json.dumps(record), e=rng.choice(things))
        names = list(record)
        kept = [key] if rng.random() < 0.4 else [name for name in names if name == key or rng.random() < 0.6]
        parts = notation(f"{second}_{resource}", {name: record[name] for name in kept}).split(CUT)
        cut = rng.choice((1, 1, 1, min(2, len(parts) - 1)))
        told = rng.choice(phrases.BEFORE_CALLS).format(f=f"{second}_{resource}", t=resource.replace("_", " "))
        made.append(Puzzle([fact], [Ask(told, "".join(parts[:cut]), "".join(parts[cut:]))], line=True))
    return made


def _json_arguments(function: str, arguments: dict[str, Any]) -> str:
    text = json.dumps(arguments)
    name = next(iter(arguments))
    start = f'{{"{name}": '
    return f"{function}({start}{_opened(text[len(start) :])})"


def _opened(rest: str) -> str:
    """Cut inside the first string's quotes, or before the first number."""
    return f'"{CUT}{rest[1:]}' if rest.startswith('"') else f"{CUT}{rest}"


def _keywords(function: str, arguments: dict[str, Any]) -> str:
    text = ", ".join(f"{name}={json.dumps(value)}" for name, value in arguments.items())
    start = f"{next(iter(arguments))}="
    return f"{function}({start}{_opened(text[len(start) :])})"


def _message(function: str, arguments: dict[str, Any]) -> str:
    text = json.dumps(arguments)
    name = next(iter(arguments))
    start = f'{{"{name}": '
    return f'{{"tool": "{function}", "arguments": {start}{_opened(text[len(start) :])}}}'


def _tags(function: str, arguments: dict[str, Any]) -> str:
    parts = [f"<{name}>{CUT}{value}</{name}>" for name, value in arguments.items()]
    return f"<call name={json.dumps(function)}>{''.join(parts)}</call>"


def _lines(function: str, arguments: dict[str, Any]) -> str:
    parts = [f"\n  {name}:{CUT} {value}" for name, value in arguments.items()]
    return f"{function}:{''.join(parts)}"


def _shell(function: str, arguments: dict[str, Any]) -> str:
    parts = [f" --{name}{CUT} {value}" for name, value in arguments.items()]
    return f"$ {function.replace('_', '-')}{''.join(parts)}"


NOTATIONS = (_json_arguments, _json_arguments, _json_arguments, _keywords, _message, _tags, _lines, _shell)
