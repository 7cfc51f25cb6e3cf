"""Agents: do live agent programs, whose answers are checked, succeed with SFI as they do densely?

Dense and SFI start from the same question and go their own ways: each feeds its own replies back. Needs the extra
`bench`, whose OpenAI client the agents use.
"""

from dataclasses import dataclass
from pathlib import Path

from sfi_sglang.agents.compare import transcript_path
from sfi_sglang.agents.program import Program, Task
from sfi_sglang.agents.programs import PROGRAMS
from sfi_sglang.client.endpoint import Endpoint
from sfi_sglang.client.openai_stream import make_client
from sfi_sglang.evals.outcomes import Outcome
from sfi_sglang.evals.variants import Variant

TASK = "agents"
CHOSEN = ("repo", "data", "research", "fork-join", "logbook")  # repo-frontend would do repo's tasks once more


@dataclass(frozen=True)
class Run:
    """One task of a program. seed: its number."""

    program: Program
    task: Task
    seed: int
    length: None = None  # what an agent reads is its own choice

    @property
    def kind(self) -> str:
        return self.program.name


def runs(most: int | None = None) -> list[Run]:
    """most: the first so many tasks of each program; None for all."""
    programs = [PROGRAMS[name]() for name in CHOSEN]
    return [Run(program, task, number) for program in programs for number, task in enumerate(program.tasks[:most])]


def answer(endpoint: Endpoint, folder: Path | None, run: Run, variant: Variant) -> Outcome:
    """folder: for transcripts.

    Raises:
        ConnectionError: the server is gone; another error of the API is an agent that failed.
    """
    path = transcript_path(folder / run.kind, variant.label, run.task) if folder else None
    result = run.program.run(
        make_client(endpoint.url), endpoint.model, run.task, sfi=variant.sfi or False, transcript=path
    )
    if result.error:
        Endpoint.connect(endpoint.url)
    reports = [call.sfi for call in result.calls if call.sfi]
    return Outcome(
        task=TASK,
        kind=run.kind,
        length=None,
        seed=run.seed,
        variant=variant.label,
        right=[run.task.check(result.answer)],
        text=result.answer or result.error or "",
        fast_steps=sum(found["fast_steps"] for found in reports),
        slow_steps=sum(found["slow_steps"] for found in reports),
    )
