"""`sfi-sglang eval all`: every task after each other, in one server, into one folder with one page."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sfi_sglang.cli.eval_run import evaluate
from sfi_sglang.cli.evals import TASKS, Clients, Set, Transcripts, source, whole_numbers
from sfi_sglang.cli.extra import advice
from sfi_sglang.cli.options import RUNS, Budget, Server
from sfi_sglang.evals.variants import RECENT, Sight
from sfi_sglang.terminal import console

if TYPE_CHECKING:
    from sfi_sglang.evals.job import Job, Question
    from sfi_sglang.evals.jobs import Target

SEED = 1


@dataclass(frozen=True)
class Size:
    """How much is asked. lengths: of prompts, tokens. trials: of every kind and length. texts: of every kind, `length`
    tokens each. tokens, turns, conversations: of carry. recent: tokens that stay in sight. agents: tasks of
    each program, None for all."""

    lengths: str
    trials: int
    length: int
    texts: int
    tokens: int
    turns: int
    conversations: int
    recent: int
    agents: int | None


FULL = Size("4000", 12, 4000, 4, 6500, 6, 8, RECENT, None)
QUICK = Size("2000", 4, 2000, 1, 2400, 3, 2, 256, 1)


def everything(
    server: Server = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="few questions of 2000 tokens: a look, no measurement")
    ] = False,
    lengths: Annotated[str | None, typer.Option(help="prompt lengths in tokens, comma-separated")] = None,
    trials: Annotated[int | None, typer.Option(min=1, help="of every kind and length")] = None,
    transcripts: Transcripts = None,
    budget: Budget = 512,
    recent: Annotated[int | None, typer.Option(min=1, help="last tokens, always visible")] = None,
    compared: Set = "plain",
    clients: Clients = 2,
    out: Annotated[Path | None, typer.Option(help="folder; none: one in runs/")] = None,
) -> None:
    """All of them after each other into one folder with one page. It says beforehand how long it takes."""
    size = QUICK if quick else FULL
    sizes = whole_numbers(lengths or size.lengths, "--lengths")
    folder, runs = out or RUNS / ("eval-quick" if quick else "eval"), agent_runs(size.agents)

    def plan(target: "Target") -> Sequence["Job"]:
        from sfi_sglang.evals import jobs

        texts = jobs.texts(target, size.length, size.texts, SEED, transcripts)
        words = source(size.length, size.texts, SEED, transcripts)
        made = [jobs.answers(target, task, sizes, trials or size.trials, "held-out") for task in TASKS.values()]
        made += [jobs.agreements(target, texts, words), jobs.coverages(target, texts, words)]
        made.append(jobs.carries(target, size.tokens, size.turns, size.conversations, SEED))
        if runs:
            made.append(jobs.agent_runs(target, runs, folder / "transcripts"))
        return made

    evaluate(server, folder, Sight(budget, recent or size.recent), compared, clients, plan)


def agent_runs(tasks: int | None) -> Sequence["Question"]:
    """Empty without the extra `bench`, and then it says so."""
    try:
        from sfi_sglang.evals.agents import runs

        return runs(tasks)
    except ModuleNotFoundError as error:
        console.print(f"left out: agents ({advice(error)})", markup=False, highlight=False, soft_wrap=True)
        return []
