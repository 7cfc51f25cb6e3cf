"""The options of `sfi-bench` that several commands share, and the checks of their texts."""

from collections.abc import Iterable
from math import inf
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from sfi_sglang.client.json_text import parse as from_text

PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": False}  # what follows --

Server = Annotated[str | None, typer.Option(help="URL of a running server")]
Launch = Annotated[
    str | None,
    typer.Option(help="start `sfi-sglang serve MODEL` for this run (`embedded`: the CPU model); flags after --"),
]
Loads = Annotated[
    str, typer.Option(help="comma-separated: clients (closed), trajectories/s (poisson), speed-ups (trace)")
]
Repeats = Annotated[int, typer.Option(min=1)]
Modes = Annotated[str, typer.Option(help="comma-separated; dense alone works on servers without SFI")]
SfiOption = Annotated[str, typer.Option("--sfi", help="the request option as JSON, e.g. '{\"budget\": 1536}'")]
Cache = Annotated[
    Literal["cold", "warm"],
    typer.Option(help="before every cell the prefix cache is emptied; warm: the first prompts are then prefilled"),
]
Arrivals = Annotated[Literal["closed", "poisson", "trace"], typer.Option(help="when trajectories begin")]
Out = Annotated[Path | None, typer.Option(help="result file; an unfinished one is gone on with")]
Report = Annotated[bool, typer.Option("--report/--no-report", help="write the report beside the result file")]
Model = Annotated[str | None, typer.Option(help="model name on the server; none: its first")]
SloTtft = Annotated[float, typer.Option(help="SLO: seconds to the first token of every call")]
SloTpot = Annotated[float, typer.Option(help="SLO: seconds per later token of every call")]


def sfi_option(text: str) -> bool | dict[str, Any]:
    value = parse("--sfi", text)
    if value is True or isinstance(value, dict):
        return value
    raise ValueError('--sfi: must be true or an object like {"budget": 1536}')


def json_object(name: str, text: str) -> dict[str, Any]:
    value = parse(name, text)
    if not isinstance(value, dict):
        raise ValueError(f"{name}: must be a JSON object")
    return value


def parse(name: str, text: str) -> Any:
    try:
        return from_text(text)
    except ValueError as error:
        raise ValueError(f"{name}: no JSON ({error})") from None


def load_values(text: str, arrivals: str) -> list[float]:
    """
    Raises:
        ValueError: no numbers above 0, or a part of a client.
    """
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"--loads: {text!r} must be numbers with commas between") from None
    if not all(0 < value < inf for value in values):
        raise ValueError("--loads: must be above 0, and finite")
    if arrivals == "closed" and not all(value.is_integer() for value in values):
        raise ValueError(f"--loads: {text!r} must be whole clients unless --arrivals is poisson or trace")
    return values


def known(name: str, text: str, names: Iterable[str]) -> list[Any]:
    wrong = [part for part in text.split(",") if part not in names]
    if wrong:
        raise ValueError(f"{name}: {', '.join(wrong)} is none of {', '.join(names)}")
    return text.split(",")
