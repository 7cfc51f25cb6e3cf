"""`sfi-bench export` and `validate`, and the workload that a command's arguments mean."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from sfi_sglang.client.endpoint import Endpoint
from sfi_sglang.client.filler import corpus
from sfi_sglang.client.token_count import Count, estimate, from_server, from_tokenizer
from sfi_sglang.terminal import console
from sfi_sglang.trajectory.arguments import Model, Repeats, json_object
from sfi_sglang.trajectory.formats import Format, load, save
from sfi_sglang.trajectory.generate import generate
from sfi_sglang.trajectory.presets import PRESETS, preset
from sfi_sglang.trajectory.workload import Workload


def export(
    workload: Annotated[str, typer.Argument(help=f"{', '.join(PRESETS)}, or a trace or transcript")],
    path: Path,
    format: Annotated[Format, typer.Option(help="of the file")] = "agentic-trace",
    settings: Annotated[str, typer.Option("--set", help="change a preset, as JSON")] = "{}",
    tokenizer: Annotated[Path | None, typer.Option(help="tokenizer.json; none: an estimate of tokens")] = None,
) -> None:
    """Write a workload as a file that SGLang's or NVIDIA's benchmark replays."""
    count = from_tokenizer(tokenizer) if tokenizer else None
    made = make_workload(workload, count, json_object("--set", settings), None)
    save(made, path, format, count)
    calls = sum(len(trajectory.turns) for trajectory in made.trajectories)
    console.print(f"{path}: {len(made.trajectories)} trajectories, {calls} calls", soft_wrap=True)


def validate(
    server: Annotated[str, typer.Option(help="URL of a running SGLang server with --enable-metrics")],
    calls: Annotated[int, typer.Option(min=1, help="requests, one after the other")] = 8,
    repeats: Repeats = 3,
    model: Model = None,
    out: Annotated[Path | None, typer.Option(help="write the comparison as JSON")] = None,
) -> None:
    """Our client against SGLang's own benchmark and the server's counters, on the same requests."""
    from sfi_sglang.client.provenance import provenance
    from sfi_sglang.trajectory.validate import compare_clients, show

    endpoint = Endpoint.connect(server, model)
    result = compare_clients(endpoint, server_counter(endpoint), calls, repeats)
    show(result, console)
    if out:
        out.write_text(json.dumps({**provenance(), **result}, indent=1) + "\n", encoding="utf-8")


def make_workload(name: str, count: Count | None, changes: dict[str, Any], limit: int | None) -> Workload:
    """
    Raises:
        ValueError: no preset and no file of this name, or a wrong setting.
    """
    if name not in PRESETS:
        if changes:
            raise ValueError("--set: only presets have settings")
        if not Path(name).exists():
            raise ValueError(f"workload: {name!r} is no file and none of {', '.join(PRESETS)}")
        return load(Path(name), count, limit=limit)
    made = generate(preset(name, **changes), count or estimate())
    if made.about["calls_left_out"]:
        console.print(f"{made.about['calls_left_out']} calls do not fit into max_context and are left out")
    return made.model_copy(update={"trajectories": made.trajectories[:limit]})


def server_counter(endpoint: Endpoint) -> Count:
    return from_server(endpoint.url, endpoint.model, "\n".join(corpus("code")[:10]))
