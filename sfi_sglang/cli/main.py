"""The command line: `sfi-sglang serve | doctor | stats | eval | agent | demo`."""

import os
from typing import Annotated

import typer

from sfi_sglang.cli import agents, diagnosis, eval_all, evals, stats
from sfi_sglang.cli.extra import explained
from sfi_sglang.terminal import console, run_command_line

app = typer.Typer(help="Slow-Fast Inference for SGLang.", no_args_is_help=True, add_completion=False)


def main() -> None:
    run_command_line(explained(app))


def show_version(wanted: bool) -> None:
    if wanted:
        from sfi_sglang.client.provenance import versions

        found = versions()
        console.print(f"sfi-sglang {found['sfi-sglang']}, SGLang {found['sglang'] or 'missing'}", highlight=False)
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="versions of this and of SGLang")
    ] = False,
) -> None:
    pass


@app.command(
    options_metavar="[MODEL] [sglang flags...]",
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
)
def serve(context: typer.Context) -> None:
    """Serve MODEL with SFI: the right flags for this machine, then yours. No MODEL: the embedded SmolLM2-135M-Instruct.

    All other flags are SGLang's: `sglang serve --help` lists them, SFI's among them.
    """
    from sfi_sglang.serving.server import SGLANG, environment, serve_command

    arguments = list(context.args)
    if arguments in (["--help"], ["-h"]):
        console.print(context.get_help())
        return
    model = arguments.pop(0) if arguments and not arguments[0].startswith("-") else None
    command = serve_command(model, arguments)
    os.execve(SGLANG, ["sglang", "serve", *command], environment(model, arguments))


app.command()(diagnosis.doctor)
app.command()(stats.stats)
evals.app.command("all")(eval_all.everything)
app.add_typer(evals.app, name="eval")
app.command()(agents.agent)
app.command()(agents.demo)
