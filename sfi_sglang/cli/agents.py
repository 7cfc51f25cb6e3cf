"""`sfi-sglang agent` and `demo`: tool-calling agents on a real server, with checked answers."""

from typing import Annotated

import typer

from sfi_sglang.cli.options import RUNS, SERVER_LOG, Budget, Recent, Server
from sfi_sglang.evals.variants import RECENT
from sfi_sglang.serving.server import connected
from sfi_sglang.terminal import console


def agent(
    program: Annotated[str, typer.Argument(help="repo, repo-frontend, data, research, fork-join or logbook")],
    server: Server = None,
    sfi: Annotated[bool, typer.Option("--sfi/--dense", help="decode with SFI, or densely")] = True,
    task: Annotated[str | None, typer.Option(help="name of one task; none: all of them")] = None,
    budget: Budget = 512,
    recent: Recent = RECENT,
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
    modes = {"sfi": {"budget": budget, "recent": recent}} if sfi else {"dense": None}
    with connected(server, log=SERVER_LOG) as url:
        folder = RUNS / "agent"
        rows = run_tasks(
            url, chosen, tasks, modes, runs_dir=folder, console=console, planned=planned, max_steps=max_steps
        )
    console.print(f"transcripts in {folder / chosen.name}")
    raise typer.Exit(int(any(row.result.error for row in rows)))


def demo(
    server: Server = None,
    budget: Budget = 512,
    recent: Recent = RECENT,
) -> None:
    """An agent reads a logbook of 6K tokens once, then reports from it, dense beside SFI."""
    from sfi_sglang.agents.demo import run_demo
    from sfi_sglang.agents.logbook import logbook

    with connected(server, log=SERVER_LOG) as url:
        run_demo(url, logbook(), {"budget": budget, "recent": recent}, runs_dir=RUNS / "demo", console=console)
