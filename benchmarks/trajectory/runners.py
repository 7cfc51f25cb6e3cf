"""The two kinds of work: a recorded trajectory (fixed history) and a task of an agent program (live)."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import openai

from sfi_sglang.agents.program import Program, Task
from sfi_sglang.report.modes import Mode
from sfi_sglang.trajectory.records import Run
from sfi_sglang.trajectory.replay import Replay
from sfi_sglang.trajectory.workload import Trajectory

Clock = Callable[[], float]
Sfi = bool | dict[str, Any]


@dataclass
class Recorded:
    """A trajectory with its recorded history. dense: how to send its calls without SFI. sfi: the request option."""

    trajectory: Trajectory
    dense: Replay
    sfi: Sfi
    id: str = field(init=False)
    start: float | None = field(init=False)

    def __post_init__(self) -> None:
        self.id, self.start = self.trajectory.id, self.trajectory.start

    def warm(self) -> None:
        self.dense.warm(self.trajectory)

    def run(self, mode: Mode, clock: Clock, done: Callable[[], None]) -> Run:
        start = clock()
        replay = replace(self.dense, sfi=self.sfi if mode == "sfi" else None, done=done)
        calls = replay.run(self.trajectory, clock)
        error = next((call.error for call in calls if call.error), None)
        return Run(
            mode=mode, load=0, repeat=0, trajectory=self.id, start=start, end=clock(), calls=calls, error=error
        )  # fmt: skip


@dataclass
class Live:
    """A task of an agent program: the model's replies are fed back, its answer is checked."""

    client: openai.OpenAI
    model: str
    program: Program
    task: Task
    sfi: Sfi
    planned: bool
    transcripts: Path | None = None
    start: float | None = None
    id: str = field(init=False)

    def __post_init__(self) -> None:
        self.id = f"{self.program.name}: {self.task.name}"

    def warm(self) -> None:
        self.program.run(self.client, self.model, self.task, planned=self.planned, max_steps=1)

    def run(self, mode: Mode, clock: Clock, done: Callable[[], None]) -> Run:
        start = clock()
        name = f"{self.program.name}-{self.task.name}".replace(" ", "_").replace("/", "_")
        path = self.transcripts / mode / f"{name}.json" if self.transcripts else None
        sfi = self.sfi if mode == "sfi" else None
        result = self.program.run(
            self.client, self.model, self.task, sfi=sfi, planned=self.planned, transcript=path
        )  # fmt: skip
        calls = [
            call.model_copy(update={name: getattr(call, name) + start for name in ("start", "end")})
            for call in result.calls
        ]
        done()
        success = self.task.check(result.answer) if result.error is None else None
        return Run(
            mode=mode, load=0, repeat=0, trajectory=self.id, start=start, end=clock(), calls=calls, success=success,
            error=result.error,
        )  # fmt: skip
