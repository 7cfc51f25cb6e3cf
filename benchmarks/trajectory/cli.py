"""The command line: `sfi-bench run | live | report | export | smoke | validate`."""

from typing import Annotated

import typer

from sfi_sglang import __version__
from sfi_sglang.terminal import console, run_command_line
from sfi_sglang.trajectory import cli_report, cli_run, cli_workload
from sfi_sglang.trajectory.arguments import PASS_ON

app = typer.Typer(
    help="Trajectory latency of agents: dense and SFI, on any OpenAI-compatible server.",
    no_args_is_help=True,
    add_completion=False,
)
app.command(context_settings=PASS_ON)(cli_run.run)
app.command(context_settings=PASS_ON)(cli_run.live)
app.command()(cli_report.report)
app.command()(cli_workload.export)
app.command()(cli_run.smoke)
app.command()(cli_workload.validate)


def main() -> None:
    """The command `sfi-bench`."""
    run_command_line(app)


def _show_version(wanted: bool) -> None:
    if wanted:
        console.print(f"sfi-bench {__version__}", highlight=False)
        raise typer.Exit


@app.callback()
def about(
    version: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True, help="say it")] = False,
) -> None: ...
