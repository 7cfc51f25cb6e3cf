"""The command line: `sfi-sglang serve | doctor | stats | eval | agent | demo`."""

import os
from typing import Annotated

import typer
from rich.table import Table

from sfi_sglang.cli import agents, evals
from sfi_sglang.terminal import console

app = typer.Typer(help="Slow-Fast Inference for SGLang.", no_args_is_help=True, add_completion=False)
app.add_typer(evals.app, name="eval")
app.command()(agents.agent)
app.command()(agents.demo)


def main() -> None:
    app()


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []})
def serve(context: typer.Context) -> None:
    """Serve MODEL with SFI: the right flags for this machine, then yours.

    sfi-sglang serve [MODEL] [sglang flags...]; no MODEL: the embedded SmolLM2-135M-Instruct.
    """
    from sfi_sglang.serving.server import SGLANG, environment, serve_command

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
    from sfi_sglang.cli import diagnosis

    report = diagnosis.examine()
    diagnosis.show(report, console)
    raise typer.Exit(0 if report.healthy else 1)


@app.command()
def stats(server: Annotated[str, typer.Option(help="URL of a running server")] = "http://127.0.0.1:30000") -> None:
    """What SFI has done on a running server: steps, inherited memory, the store. Needs --enable-metrics there."""
    import requests

    from sfi_sglang import METRIC_PREFIX as PREFIX
    from sfi_sglang.client.endpoint import Endpoint

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
