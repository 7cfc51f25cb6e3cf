"""What an evaluation leaves behind: a header line, then one JSON line an answer. A run of the same settings goes on
where the last one was broken off."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Outcome:
    """One answer. right: to a task's item. chosen, divergence: by position, of the agreement (evals/agreement.py)."""

    task: str
    kind: str
    length: int
    depth: float
    seed: int
    variant: str
    right: bool | None = None
    text: str = ""
    fast_steps: int = 0
    slow_steps: int = 0
    chosen: tuple[bool, ...] = ()
    divergence: tuple[float, ...] = ()

    @property
    def key(self) -> tuple[Any, ...]:
        return self.task, self.kind, self.length, self.seed, self.variant


class Outcomes:
    """The answers so far, and their file if there is one."""

    def __init__(self, path: Path | None, settings: dict[str, Any], provenance: dict[str, Any]) -> None:
        """settings: what the answers depend on.

        Raises:
            ValueError: the file holds another evaluation's answers, or something else.
        """
        self.path, self.all = path, list[Outcome]()
        if path is None:
            return
        header = {"settings": settings, "provenance": provenance}
        if path.exists():
            found, self.all = read(path)
            if found["settings"] != settings:
                raise ValueError(f"{path}: holds another evaluation's answers; give another file or remove it")
            header = found
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [header, *map(asdict, self.all)]  # without a line that was cut short
        path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))

    def add(self, outcome: Outcome) -> None:
        self.all.append(outcome)
        if self.path:
            with self.path.open("a") as file:
                file.write(f"{json.dumps(asdict(outcome))}\n")

    def keys(self) -> set[tuple[Any, ...]]:
        return {outcome.key for outcome in self.all}


def read(path: Path) -> tuple[dict[str, Any], list[Outcome]]:
    """Header and answers; a last line that was cut short is left out.

    Raises:
        ValueError: no file of an evaluation; names the line.
    """
    first, *lines = path.read_text().splitlines() or [""]
    try:
        header = json.loads(first)
        if not isinstance(header, dict) or "settings" not in header:
            raise ValueError
    except ValueError:
        raise ValueError(f"{path}:1: no file of `sfi-sglang eval`") from None
    found = []
    for number, line in enumerate(lines, 2):
        try:
            values = json.loads(line)
            found.append(Outcome(**{**values, **{key: tuple(values[key]) for key in ("chosen", "divergence")}}))
        except (ValueError, TypeError, KeyError):
            if number <= len(lines):
                raise ValueError(f"{path}:{number}: no answer of `sfi-sglang eval`") from None
    return header, found
