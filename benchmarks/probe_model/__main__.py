"""Continue the embedded model to 32K tokens, and see how right it is: `python -m benchmarks.probe_model --help`."""

import json
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from sfi_sglang.client.provenance import provenance, without_folders
from sfi_sglang.terminal import console, run_command_line

app = typer.Typer(help=__doc__, no_args_is_help=True)


@app.command()
def train(
    out: Annotated[Path, typer.Option(help="folder for the model and train.json")],
    texts: Annotated[list[Path] | None, typer.Option(help="more folders of texts; may be repeated")] = None,
    minutes: Annotated[float, typer.Option(help="from the start of this command to the last step")] = 7.0,
    longest: Annotated[int, typer.Option(min=256, help="tokens of the longest documents")] = 32768,
    rate: Annotated[float, typer.Option(help="highest learning rate")] = 5e-4,
    seed: int = 1,
    workers: Annotated[
        int | None, typer.Option(help="processes for each of four lengths; by default all cores")
    ] = None,
    compiled: Annotated[bool, typer.Option(help="compile the layers first")] = False,
    model: Annotated[Path | None, typer.Option(help="folder to start from; by default the embedded model")] = None,
) -> None:
    """Train on the installed packages' texts, those of `--texts`, and generated documents; stops by the clock."""
    from benchmarks.probe_model.texts import default_folders, read_texts
    from benchmarks.probe_model.train import Settings, default_workers
    from benchmarks.probe_model.train import train as run
    from sfi_sglang.serving.embedded_model import embedded_model

    begun = time.monotonic()
    folder = model or embedded_model()
    found = read_texts([*(texts or []), *default_folders()], seed)
    print(f"texts: {json.dumps(found.about)}", flush=True)
    many = default_workers() if workers is None else workers
    run(folder, out, found, Settings(minutes, longest, rate, seed, many, compiled), begun)


@app.command()
def check(
    model: Annotated[Path, typer.Option(help="the model's folder")],
    lengths: Annotated[str, typer.Option(help="prompt lengths in tokens, comma-separated")] = "4000,8000,16000,30000",
    trials: Annotated[int, typer.Option(min=1, help="of every kind and length")] = 20,
    out: Annotated[
        Path | None, typer.Option(help="write JSON here; by default check.json in the model's folder")
    ] = None,
) -> None:
    """Dense accuracy on the tasks of `sfi-sglang eval`, held-out seeds."""
    from dataclasses import asdict

    from benchmarks.probe_model.check import Score, check

    def show(score: Score) -> None:
        print(f"{score.length:6} {score.task}: {score.kind}: {score.right}/{score.trials}", flush=True)

    sizes = [int(part) for part in lengths.split(",")]
    begun = time.monotonic()
    scores = check(model, sizes, trials, show)
    table = Table("task", *(f"{size} tokens" for size in sizes), title=f"Right answers, dense, {trials} trials a cell")
    for task, kind in dict.fromkeys((score.task, score.kind) for score in scores):
        cells = [score for score in scores if (score.task, score.kind) == (task, kind)]
        table.add_row(f"{task}: {kind}", *(f"{score.right / score.trials:.1%}" for score in cells))
    console.print(table)
    command = f"python -m benchmarks.probe_model {without_folders(sys.argv[1:])}"
    record = provenance() | {"command": command, "seconds": round(time.monotonic() - begun, 1)}
    record["scores"] = [asdict(score) for score in scores]
    (out or model / "check.json").write_text(json.dumps(record, indent=1))


if __name__ == "__main__":
    run_command_line(app)
