"""The command line: `sfi-sglang serve | doctor | stats | eval | agent | demo`."""

import json
import os
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from sfi_sglang.terminal import progress

app = typer.Typer(help="Slow-Fast Inference for SGLang.", no_args_is_help=True, add_completion=False)
evals = typer.Typer(help="Quality of SFI beside dense, on a real server.", no_args_is_help=True)
app.add_typer(evals, name="eval")
console = Console()

Server = Annotated[str | None, typer.Option(help="URL of a running server; none: start the embedded model")]
RUNS = Path("runs")


def main() -> None:
    app()


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []})
def serve(context: typer.Context) -> None:
    """Serve MODEL with SFI: the right flags for this machine, then yours.

    sfi-sglang serve [MODEL] [sglang flags...]; no MODEL: the embedded SmolLM2-135M-Instruct.
    """
    from sfi_sglang.server import SGLANG, environment, serve_command

    arguments = list(context.args)
    if arguments in (["--help"], ["-h"]):
        console.print(context.get_help())
        console.print("All other flags are SGLang's: `sglang serve --help`.")
        return
    model = arguments.pop(0) if arguments and not arguments[0].startswith("-") else None
    os.execve(SGLANG, ["sglang", "serve", *serve_command(model, arguments)], environment())


@app.command()
def doctor() -> None:
    """Say which hooks are installed, which versions are there and what is missing. Exit code 1 if SFI cannot run."""
    from sfi_sglang import diagnosis

    report = diagnosis.examine()
    diagnosis.show(report, console)
    raise typer.Exit(0 if report.healthy else 1)


@app.command()
def stats(server: Annotated[str, typer.Option(help="URL of a running server")] = "http://127.0.0.1:30000") -> None:
    """What SFI has done on a running server: steps, inherited memory, the store. Needs --enable-metrics there."""
    import requests

    from sfi_sglang import METRIC_PREFIX as PREFIX
    from sfi_sglang.trajectory.endpoint import Endpoint

    try:
        found = Endpoint(server.rstrip("/"), "").counters()
    except requests.RequestException as error:
        console.print(f"[red]no answer from {server}[/]: {type(error).__name__}")
        raise typer.Exit(1) from None
    samples = {name.removeprefix(PREFIX): value for name, value in found.items() if PREFIX in name}
    table = Table("what", "value", title=f"SFI on {server}")
    for name, value in samples.items():
        if not name.endswith("_created"):
            table.add_row(name, f"{value:,.0f}")
    console.print(table if samples else "nothing yet: no SFI request has finished, or --enable-metrics is missing")


@evals.command()
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
    from sfi_sglang.evals.report import provenance

    sizes = [int(size) for size in lengths.split(",")]
    chosen = test.variants(budget)
    with connected(server) as url, progress(console) as bar:
        count_tokens = token_counter(url)
        task = bar.add_task("needle", total=len(sizes) * trials)
        scores = []
        for size in sizes:
            cases = test.make_trials(size, trials, seed, count_tokens)
            scores += test.evaluate(url, cases, size, chosen, lambda: bar.advance(task))
    table = Table("variant", *(f"{size} tokens" for size in sizes), title=f"Needle retrieved, {trials} trials a length")
    for variant in chosen:
        cells = [f"{s.found}/{s.trials}" for s in scores if s.variant == variant.label]
        table.add_row(variant.label, *cells)
    console.print(table)
    if out:
        out.write_text(json.dumps({**provenance(), "scores": [score.as_dict() for score in scores]}, indent=1))


@evals.command()
def carry(
    server: Server = None,
    tokens: Annotated[int, typer.Option(help="prompt tokens of the last turn")] = 6500,
    turns: Annotated[int, typer.Option(min=2)] = 6,
    conversations: Annotated[int, typer.Option(min=1, help="each asks for three facts")] = 8,
    budget: Annotated[int, typer.Option(min=1, help="selected tokens per KV head")] = 512,
    seed: int = 1,
    out: Annotated[Path | None, typer.Option(help="write the results as JSON")] = None,
) -> None:
    """Facts planted in turn 1 and asked for in the last: dense and the carry modes."""
    from dataclasses import asdict

    from sfi_sglang.evals import carry as test
    from sfi_sglang.evals.report import provenance

    with connected(server) as url, progress(console) as bar:
        count_tokens = token_counter(url)
        made = [test.make_conversation(tokens, turns, seed * 100 + i, count_tokens) for i in range(conversations)]
        task = bar.add_task("carry", total=len(made) * len(test.MODES))
        results = test.run(url, made, budget, done=lambda: bar.advance(task))
    table = Table("mode", "facts found", "slow steps a turn", "inherited", "first token, s", title=f"budget {budget}")
    for r in results:
        steps, share = f"{r.slow_steps_per_turn:.2f}", f"{r.inherited_share:.0%}"
        table.add_row(r.mode, f"{r.found}/{r.trials}", steps, share, f"{r.first_token_seconds:.2f}")
    console.print(table)
    if out:
        settings = {"tokens": tokens, "turns": turns, "budget": budget}
        out.write_text(json.dumps({**provenance(), **settings, "results": [asdict(r) for r in results]}, indent=1))


@app.command()
def agent(
    program: Annotated[str, typer.Argument(help="repo, repo-frontend, data, research or fork-join")],
    server: Server = None,
    sfi: Annotated[bool, typer.Option("--sfi/--dense", help="decode with SFI, or densely")] = True,
    task: Annotated[str | None, typer.Option(help="name of one task; none: all of them")] = None,
    budget: Annotated[int, typer.Option(min=1, help="selected tokens per KV head")] = 512,
    planned: Annotated[bool, typer.Option("--planned/--unplanned", help="tell the model which tool to call")] = True,
    max_steps: Annotated[int, typer.Option(min=1, help="of a run, and of each parallel branch")] = 12,
) -> None:
    """Run a tool-calling agent on tasks whose answers are checked. Exit code 1 if a run ended with an error."""
    from sfi_sglang.agents.compare import run_tasks
    from sfi_sglang.agents.programs import PROGRAMS

    if program not in PROGRAMS:
        raise typer.BadParameter(f"{program!r} is none of {', '.join(PROGRAMS)}", param_hint="program")
    chosen = PROGRAMS[program]()
    try:
        tasks = [chosen.task(task)] if task else chosen.tasks
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--task") from None
    modes = {"sfi": {"budget": budget}} if sfi else {"dense": None}
    with connected(server) as url:
        folder = RUNS / "agent"
        rows = run_tasks(
            url, chosen, tasks, modes, runs_dir=folder, console=console, planned=planned, max_steps=max_steps
        )
    console.print(f"transcripts in {folder / chosen.name}")
    raise typer.Exit(int(any(row.result.error for row in rows)))


@app.command()
def demo(
    server: Server = None,
    budget: Annotated[int, typer.Option(min=1, help="selected tokens per KV head")] = 512,
) -> None:
    """The agent `repo` on all of its tasks, dense and with SFI, from a cold cache each time."""
    from sfi_sglang.agents.compare import run_tasks
    from sfi_sglang.agents.repo import repo

    modes = {"dense": None, "sfi": {"budget": budget}}
    program = repo()
    with connected(server) as url:
        run_tasks(url, program, program.tasks, modes, runs_dir=RUNS / "agent", console=console)


@contextmanager
def connected(url: str | None):
    """The given server, or the embedded one for the time of the command."""
    if url:
        yield url.rstrip("/")
        return
    from sfi_sglang.server import running_server

    RUNS.mkdir(exist_ok=True)
    log = RUNS / "server.log"
    with console.status(f"starting the server, log in {log}") as status, running_server(log=log) as started:
        status.stop()
        console.print(f"server up at {started}")
        yield started


def token_counter(url: str):
    """Token count of a text by the served model's own tokenizer.

    Raises:
        FileNotFoundError: its folder is not on this machine.
    """
    from sfi_sglang.trajectory.counters import from_tokenizer, model_folder

    return from_tokenizer(model_folder(url) or Path())
