"""`sfi-sglang eval`: quality of SFI beside dense, on a real server."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from sfi_sglang.cli.options import SERVER_LOG, Server
from sfi_sglang.serving.server import connected
from sfi_sglang.terminal import console, progress

SAMPLE_TOKENS = 1500  # of the eval's own text, where tokens can only be estimated
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
        table.add_row(r.mode, f"{r.found}/{r.trials}", steps, share, f"{r.first_token_seconds:.2f}")
    console.print(table)
    settings = {"tokens": tokens, "turns": turns, "budget": budget}
    write(out, {**settings, "results": [asdict(result) for result in results]})


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
