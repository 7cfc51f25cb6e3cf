"""Cells: one mode under one load, one repeat. Dense and SFI take turns; a result file is gone on with after a break."""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

import openai

from sfi_sglang.client.endpoint import Endpoint
from sfi_sglang.report.modes import Mode
from sfi_sglang.trajectory.records import Header, Run, Writer


class Work(Protocol):
    """What a cell runs: a trajectory of a workload, or a task of an agent program."""

    id: str
    start: float | None  # of a recorded trace, seconds

    def run(self, mode: Mode, clock: Callable[[], float], done: Callable[[], None]) -> Run:
        """Run's load and repeat are filled in by the caller. done: after every call."""

    def warm(self) -> None: ...


@dataclass(frozen=True)
class Cell:
    mode: Mode
    load: float
    repeat: int


@dataclass
class Experiment:
    """All cells over the same works. progress: called with a cell at its start and None after every call."""

    endpoint: Endpoint
    header: Header
    works: Sequence[Work]
    modes: Sequence[Mode]
    seed: int = 0
    progress: Callable[[Cell | None], None] = field(default=lambda cell: None)

    def cells(self) -> Iterator[Cell]:
        """Every load in every repeat, its modes one after the other, each first in turn."""
        for repeat in range(self.header.repeats):
            for number, load in enumerate(self.header.loads):
                for mode in self.modes if (repeat + number) % 2 == 0 else reversed(self.modes):
                    yield Cell(mode, load, repeat)

    def run(self, writer: Writer) -> None:
        """Run the cells that `writer` does not hold yet.

        Raises:
            RuntimeError: the server's prefix cache cannot be emptied.
            ConnectionError: warming up failed, or the server is gone.
        """
        done = {(run.mode, run.load, run.repeat) for run in writer.runs}
        for cell in self.cells():
            if (cell.mode, cell.load, cell.repeat) in done:
                continue
            self.progress(cell)
            self._reset()
            runs = self._run_cell(cell)
            if any(run.error for run in runs):
                self.endpoint.counters()  # the server may be gone: then the cell is repeated when the run goes on
            for run in runs:
                writer.add(run)

    def _reset(self) -> None:
        """The same cache for every cell."""
        try:
            self.endpoint.flush_cache()
        except RuntimeError:
            if self.header.cache == "cold":
                raise
        if self.header.cache == "warm":
            try:
                for work in self.works:
                    work.warm()
            except openai.OpenAIError as error:
                raise ConnectionError(f"server: warming up its cache failed: {error}") from None

    def _run_cell(self, cell: Cell) -> list[Run]:
        """All runs, held back until the last has ended: a cell broken off is repeated whole."""
        closed = self.header.arrivals == "closed"
        workers = int(cell.load) if closed else len(self.works)
        starts = self._starts(cell)
        began = time.perf_counter()

        def clock() -> float:
            return time.perf_counter() - began

        def one(index: int) -> Run:
            time.sleep(max(0.0, starts[index] - clock()))
            run = self.works[index].run(cell.mode, clock, lambda: self.progress(None))
            return run.model_copy(update={"load": cell.load, "repeat": cell.repeat})

        with ThreadPoolExecutor(workers) as pool:
            return list(pool.map(one, range(len(self.works))))

    def _starts(self, cell: Cell) -> list[float]:
        """When each trajectory may begin. poisson: `load` a second, alike for both; trace: `load` times as fast."""
        if self.header.arrivals == "closed":
            return [0.0] * len(self.works)
        if self.header.arrivals == "trace":
            return [(work.start or 0.0) / cell.load for work in self.works]
        gaps = random.Random(f"{self.seed}/{cell.load}/{cell.repeat}")
        starts, now = [], 0.0
        for _ in self.works:
            starts.append(now)
            now += gaps.expovariate(cell.load)
        return starts
