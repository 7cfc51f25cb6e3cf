"""`sfi-sglang eval`: quality of SFI beside dense, on a real server."""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sfi_sglang.cli.eval_run import evaluate
from sfi_sglang.cli.options import Budget, Recent, Server
from sfi_sglang.evals.calls import Calls
from sfi_sglang.evals.copying import Copying
from sfi_sglang.evals.retrieval import Retrieval
from sfi_sglang.evals.variants import RECENT, SETS, Sight

if TYPE_CHECKING:
    from sfi_sglang.evals.job import Job
    from sfi_sglang.evals.jobs import Target

TASKS = {task.name: task for task in (Retrieval(), Copying(), Calls())}
app = typer.Typer(help="Quality of SFI beside dense, on a real server.", no_args_is_help=True)


class Split(StrEnum):
    """Seeds: a default is chosen on the one half and reported on the other."""

    tuning = "tuning"
    held_out = "held-out"


Lengths = Annotated[str, typer.Option(help="prompt lengths in tokens, comma-separated")]
Trials = Annotated[int, typer.Option(min=1, help="of every kind and length, depths varied")]
Set = Annotated[str, typer.Option("--set", help=f"what to compare: {', '.join(SETS)}")]
Half = Annotated[Split, typer.Option(help="which half of the seeds")]
Clients = Annotated[int, typer.Option(min=1, help="requests at once")]
Length = Annotated[int, typer.Option(min=1, help="tokens of the texts that are continued")]
Texts = Annotated[int, typer.Option(min=1, help="texts of every kind: prose, code, JSON lines")]
Transcripts = Annotated[
    Path | None, typer.Option(help="instead: a folder of conversations, .json files of OpenAI messages")
]
Tasks = Annotated[int | None, typer.Option(min=1, help="first so many tasks of each program; none: all")]
Out = Annotated[Path | None, typer.Option(help="folder for answers and report; an unfinished one is gone on with")]


def task_command(name: str, about: str) -> None:
    def command(
        server: Server = None,
        lengths: Lengths = "4000",
        trials: Trials = 12,
        budget: Budget = 512,
        recent: Recent = RECENT,
        compared: Set = "plain",
        split: Half = Split.held_out,
        clients: Clients = 2,
        out: Out = None,
    ) -> None:
        sizes = whole_numbers(lengths, "--lengths")

        def plan(target: "Target") -> Sequence["Job"]:
            from sfi_sglang.evals import jobs

            return [jobs.answers(target, TASKS[name], sizes, trials, split.value)]

        evaluate(server, out, Sight(budget, recent), compared, clients, plan)

    about = f"{about[0].upper()}{about[1:]}. SFI beside dense and controls, with intervals of 95%."
    app.command(name, help=about)(command)


for task in TASKS.values():
    task_command(task.name, task.about)


def text_command(name: str, about: str) -> None:
    def command(
        server: Server = None,
        length: Length = 4000,
        trials: Texts = 4,
        transcripts: Transcripts = None,
        budget: Budget = 512,
        recent: Recent = RECENT,
        compared: Set = "plain",
        seed: int = 1,
        clients: Clients = 2,
        out: Out = None,
    ) -> None:
        def plan(target: "Target") -> Sequence["Job"]:
            from sfi_sglang.evals import jobs

            texts = jobs.texts(target, length, trials, seed, transcripts)
            make = jobs.agreements if name == "agreement" else jobs.coverages
            return [make(target, texts, source(length, trials, seed, transcripts))]

        evaluate(server, out, Sight(budget, recent), compared, clients, plan)

    app.command(name, help=about)(command)


text_command(
    "agreement",
    "Share of SFI's tokens that dense attention would have chosen too, and how far their probabilities are apart.",
)
text_command("coverage", "How much of each head's attention at slow steps falls on what fast steps saw before.")


@app.command()
def carry(
    server: Server = None,
    tokens: Annotated[int, typer.Option(min=1, help="prompt tokens of the last turn")] = 6500,
    turns: Annotated[int, typer.Option(min=2)] = 6,
    conversations: Annotated[int, typer.Option(min=1, help="each asks for three facts")] = 8,
    budget: Budget = 512,
    recent: Recent = RECENT,
    seed: int = 1,
    out: Out = None,
) -> None:
    """Facts planted in turn 1 and asked for in the last: dense and the carry modes."""

    def plan(target: "Target") -> Sequence["Job"]:
        from sfi_sglang.evals import jobs

        return [jobs.carries(target, tokens, turns, conversations, seed)]

    evaluate(server, out, Sight(budget, recent), "plain", 1, plan)


@app.command()
def agents(
    server: Server = None, tasks: Tasks = None, budget: Budget = 512, recent: Recent = RECENT, out: Out = None
) -> None:
    """Live agent programs whose answers are checked, dense and SFI. Needs the extra `bench`."""
    from sfi_sglang.evals.agents import runs

    chosen = runs(tasks)

    def plan(target: "Target") -> Sequence["Job"]:
        from sfi_sglang.evals import jobs

        return [jobs.agent_runs(target, chosen, out and out / "transcripts")]

    evaluate(server, out, Sight(budget, recent), "plain", 1, plan)


def source(length: int, trials: int, seed: int, transcripts: Path | None) -> str:
    """Of the texts that are continued, in words."""
    own = f"conversations in {transcripts.name}" if transcripts else None
    return own or f"{trials} of every kind, {length} tokens, seed {seed}"


def whole_numbers(text: str, option: str) -> list[int]:
    """
    Raises:
        typer.BadParameter: not numbers above 0 with commas between.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) for part in parts):
        raise typer.BadParameter(f"{text!r} must be whole numbers above 0, comma-separated", param_hint=option)
    return [int(part) for part in parts]
