"""`sfi-sglang eval`: quality of SFI beside dense, on a real server."""

import json
from collections.abc import Callable, Sequence
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from sfi_sglang.cli.options import SERVER_LOG, Server
from sfi_sglang.evals.calls import Calls
from sfi_sglang.evals.copying import Copying
from sfi_sglang.evals.retrieval import Retrieval
from sfi_sglang.serving.server import connected
from sfi_sglang.terminal import console, progress

if TYPE_CHECKING:
    from sfi_sglang.evals.outcomes import Outcomes
    from sfi_sglang.evals.variants import Variant

SAMPLE_TOKENS = 1500  # of the eval's own text, where tokens can only be estimated
HELD_OUT = 1_000_000  # first of its seeds
TASKS = {task.name: task for task in (Retrieval(), Copying(), Calls())}
app = typer.Typer(help="Quality of SFI beside dense, on a real server.", no_args_is_help=True)


@app.command()
def needle(
    server: Server = None,
    lengths: Annotated[str, typer.Option(help="prompt lengths in tokens, comma-separated")] = "2000,4000,7000",
    trials: Annotated[int, typer.Option(min=1, help="trials per length, depths varied")] = 8,
    budget: Annotated[int, typer.Option(min=1, help="selected tokens per KV head")] = 512,
    seed: int = 1,
    out: Annotated[Path | None, typer.Option(help="write the scores as JSON")] = None,
) -> None:
    """Retrieval of a number told once: dense, presets span and paper, sink+recent of equal size."""
    from sfi_sglang.evals import needle as test

    sizes = whole_numbers(lengths, "--lengths")
    chosen = test.variants(budget)
    with connected(server, log=SERVER_LOG) as url, progress(console) as bar:
        count = counter(url)
        task = bar.add_task("needle", total=len(sizes) * trials)
        scores = []
        for size in sizes:
            cases = test.make_trials(size, trials, seed, count)
            scores += test.evaluate(url, cases, size, chosen, lambda: bar.advance(task))
    table = Table("variant", *(f"{size} tokens" for size in sizes), title=f"Needle retrieved, {trials} trials a length")
    for variant in chosen:
        cells = [f"{s.found}/{s.trials}" for s in scores if s.variant == variant.label]
        table.add_row(variant.label, *cells)
    console.print(table)
    write(out, {"scores": [score.as_dict() for score in scores]})


@app.command()
def carry(
    server: Server = None,
    tokens: Annotated[int, typer.Option(min=1, help="prompt tokens of the last turn")] = 6500,
    turns: Annotated[int, typer.Option(min=2)] = 6,
    conversations: Annotated[int, typer.Option(min=1, help="each asks for three facts")] = 8,
    budget: Annotated[int, typer.Option(min=1, help="selected tokens per KV head")] = 512,
    seed: int = 1,
    out: Annotated[Path | None, typer.Option(help="write the results as JSON")] = None,
) -> None:
    """Facts planted in turn 1 and asked for in the last: dense and the carry modes."""
    from dataclasses import asdict

    from sfi_sglang.evals import carry as test

    with connected(server, log=SERVER_LOG) as url, progress(console) as bar:
        count = counter(url)
        made = [test.make_conversation(tokens, turns, seed * 100 + i, count) for i in range(conversations)]
        task = bar.add_task("carry", total=len(made) * len(test.MODES))
        results = test.run(url, made, budget, done=lambda: bar.advance(task))
    table = Table("mode", "facts found", "slow steps a turn", "inherited", "first token, s", title=f"budget {budget}")
    for r in results:
        steps, share = f"{r.slow_steps_per_turn:.2f}", f"{r.inherited_share:.0%}"
        seconds = "-" if r.first_token_seconds is None else f"{r.first_token_seconds:.2f}"
        table.add_row(r.mode, f"{r.found}/{r.trials}", steps, share, seconds)
    console.print(table)
    settings = {"tokens": tokens, "turns": turns, "budget": budget}
    write(out, {**settings, "results": [asdict(result) for result in results]})


class Split(StrEnum):
    """Seeds: a default is chosen on the one half and reported on the other."""

    tuning = "tuning"
    held_out = "held-out"


Lengths = Annotated[str, typer.Option(help="prompt lengths in tokens, comma-separated")]
Budget = Annotated[int, typer.Option(min=1, help="selected tokens per KV head")]
Set = Annotated[str, typer.Option("--set", help="what to compare: plain, controls, budgets")]
Clients = Annotated[int, typer.Option(min=1, help="requests at once")]
Kept = Annotated[Path | None, typer.Option(help="keep the answers here (JSON lines) and go on where they end")]


def task_command(name: str, about: str) -> None:
    def command(
        server: Server = None,
        lengths: Lengths = "2000,4000",
        trials: Annotated[int, typer.Option(min=1, help="of every kind and length, depths varied")] = 12,
        budget: Budget = 512,
        compared: Set = "plain",
        split: Annotated[Split, typer.Option(help="which half of the seeds")] = Split.held_out,
        clients: Clients = 2,
        out: Kept = None,
    ) -> None:
        from sfi_sglang.evals.ask import answer, ask_all
        from sfi_sglang.evals.summary import markdown, rows

        task, sizes, chosen = TASKS[name], whole_numbers(lengths, "--lengths"), variants_of(budget, compared)
        first = 0 if split is Split.tuning else HELD_OUT
        settings = {"task": name, "budget": budget, "set": compared, "split": split.value, "trials": trials}
        with connected(server, log=SERVER_LOG) as url, progress(console) as bar:
            outcomes, count = kept(out, url, settings), counter(url)
            items = [item for size in sizes for item in task.items(size, trials, range(first, first + trials), count)]
            bar_task = bar.add_task(name, total=len(items))
            work = partial(answer, url, task)
            ask_all(name, items, chosen, work, outcomes, clients, lambda: bar.advance(bar_task))
        say(markdown(rows(outcomes.all)), chosen, out)

    about = f"{about[0].upper()}{about[1:]}. SFI beside dense and controls, with intervals of 95%."
    app.command(name, help=about)(command)


@app.command()
def agreement(
    server: Server = None,
    length: Annotated[int, typer.Option(min=1, help="tokens of the texts that are continued")] = 4000,
    trials: Annotated[int, typer.Option(min=1, help="texts of every kind: prose, code, JSON lines")] = 4,
    transcripts: Annotated[
        Path | None, typer.Option(help="instead: a folder of conversations, .json files of OpenAI messages")
    ] = None,
    budget: Budget = 512,
    compared: Set = "plain",
    seed: int = 1,
    clients: Clients = 2,
    out: Kept = None,
) -> None:
    """Share of SFI's tokens that dense attention would have chosen too, and how far their probabilities are apart."""
    from sfi_sglang.evals import agreement as test
    from sfi_sglang.evals.ask import ask_all
    from sfi_sglang.evals.summary import agreement_markdown

    chosen = variants_of(budget, compared)
    settings = {"task": test.TASK, "budget": budget, "set": compared, "seed": seed, "length": length}
    with connected(server, log=SERVER_LOG) as url, progress(console) as bar:
        outcomes = kept(out, url, {**settings, "transcripts": str(transcripts or "")})
        texts = (
            test.transcripts(url, transcripts)
            if transcripts
            else test.real_texts(url, length, trials, seed, counter(url))
        )
        bar_task = bar.add_task("agreement", total=len(texts))
        ask_all(test.TASK, texts, chosen, partial(test.answer, url), outcomes, clients, lambda: bar.advance(bar_task))
    say(agreement_markdown(outcomes.all), chosen, out)


def variants_of(budget: int, compared: str) -> list["Variant"]:
    from sfi_sglang.evals.variants import SETS, variants

    if compared not in SETS:
        raise typer.BadParameter(f"{compared!r} is none of {', '.join(SETS)}", param_hint="--set")
    return variants(budget, compared)


def kept(out: Path | None, url: str, settings: dict[str, Any]) -> "Outcomes":
    """The answers that `out` has already, of this model and these settings."""
    from sfi_sglang.client.endpoint import Endpoint
    from sfi_sglang.client.provenance import provenance
    from sfi_sglang.evals.outcomes import Outcomes

    return Outcomes(out, {"model": Endpoint.connect(url).model, **settings}, provenance())


def say(table: str, compared: Sequence["Variant"], out: Path | None) -> None:
    """A table in Markdown and what its columns are, on the screen and beside the answers."""
    table += "".join(f"\n- {variant.label}: {variant.about}" for variant in compared) + "\n"
    console.print(table, markup=False, highlight=False, soft_wrap=True)
    if out:
        out.with_suffix(".md").write_text(table)
        console.print(f"answers: {out}, table: {out.with_suffix('.md')}")


def whole_numbers(text: str, option: str) -> list[int]:
    """
    Raises:
        typer.BadParameter: not numbers above 0 with commas between.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) for part in parts):
        raise typer.BadParameter(f"{text!r} must be whole numbers above 0, comma-separated", param_hint=option)
    return [int(part) for part in parts]


def counter(url: str) -> Callable[[str], int]:
    """The served model's tokenizer where its folder is on this machine, else an estimate from its server."""
    from sfi_sglang.client.endpoint import Endpoint
    from sfi_sglang.client.token_count import estimate, from_server
    from sfi_sglang.evals.needle import make_trial

    endpoint = Endpoint.connect(url)
    return from_server(url, endpoint.model, make_trial(SAMPLE_TOKENS, 0.5, 0, estimate()).prompt)


def write(out: Path | None, results: dict[str, Any]) -> None:
    """Results with their provenance as JSON, if asked for."""
    from sfi_sglang.client.provenance import provenance

    if out:
        out.write_text(json.dumps({**provenance(), **results}, indent=1))


for task in TASKS.values():
    task_command(task.name, task.about)
