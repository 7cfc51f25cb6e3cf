"""What a run leaves behind: a header line, then one JSON line a trajectory. A run of the same header resumes it."""

import math
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, Field

from sfi_sglang.client import run_file
from sfi_sglang.client.call import Call, Record
from sfi_sglang.report.modes import Mode


class Run(Record):
    """One trajectory in one cell: a mode, a load, a repeat.

    load: clients in a closed loop, or trajectories per second if arrivals is `poisson`.
    success: whether the agent's answer was right (live), None in fixed history.
    error: the first failed call's; a failed trajectory has no completion time.
    """

    model_config = ConfigDict(allow_inf_nan=False)

    mode: Mode
    load: float
    repeat: int
    trajectory: str
    start: float
    end: float
    calls: list[Call]
    success: bool | None = None
    error: str | None = None

    @property
    def tool_seconds(self) -> float:
        """Time in which tools worked and no call was under way: calls of parallel branches overlap."""
        calls = [(call.start, call.end) for call in self.calls]
        return covered([*calls, *((call.start - call.delay, call.start) for call in self.calls)]) - covered(calls)

    @property
    def seconds(self) -> float:
        return self.end - self.start - self.tool_seconds


def covered(intervals: Iterable[tuple[float, float]]) -> float:
    """Length of the union of intervals."""
    total, reached = 0.0, -math.inf
    for start, end in sorted(intervals):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


class Header(Record):
    """What was run, where and how. `settings` identify the run: a file is resumed only with equal settings."""

    workload: str
    history: Literal["fixed", "live"]
    arrivals: Literal["closed", "poisson", "trace"]
    cache: Literal["cold", "warm"]  # the radix cache when a cell begins
    loads: list[float]
    repeats: int
    settings: dict[str, Any] = Field(default={}, description="sfi options, model, seed, workload's numbers")
    provenance: dict[str, Any] = Field(default_factory=dict)


class Results(Record):
    header: Header
    runs: list[Run]


def read(path: Path) -> Results:
    """A result file; a line cut short by an interrupted run is left out.

    Raises:
        ValueError: no file, no result file, or another version's; names file, line and field.
    """
    header, runs = run_file.read(path, Header, Run, "sfi-bench run or live")
    return Results(header=header, runs=runs)


class Writer:
    """Appends runs to a result file, cell by cell."""

    def __init__(self, path: Path, header: Header, works: int) -> None:
        """Start the file, or go on with one of the same settings: `self.runs` is what it has. works: runs of a cell; a
        cell with fewer was broken off and is left out, to be run again.

        Raises:
            ValueError: the file is of another run.
        """
        self.path, self.runs = path, list[Run]()
        if run_file.begun(path):
            results = read(path)
            if same(results.header) != same(header):
                raise ValueError(f"{path}: holds another run's results; give another file or remove it")
            header = results.header
            sizes = Counter((run.mode, run.load, run.repeat) for run in results.runs)
            self.runs = [run for run in results.runs if sizes[run.mode, run.load, run.repeat] == works]
        run_file.write(path, [header, *self.runs])

    def add(self, run: Run) -> None:
        self.runs.append(run)
        run_file.append(self.path, run)


def same(header: Header) -> dict[str, Any]:
    return header.model_dump(exclude={"provenance"})
