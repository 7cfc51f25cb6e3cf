"""The command line: `sfi-bench run | live | report | export | smoke | validate`."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from sfi_sglang.agents.programs import PROGRAMS
from sfi_sglang.client.endpoint import Endpoint
from sfi_sglang.client.openai_stream import make_client
from sfi_sglang.client.token_count import Count, from_server, from_tokenizer
from sfi_sglang.serving.server import connected
from sfi_sglang.terminal import console, progress
from sfi_sglang.trajectory.arguments import (
    Arrivals,
    Cache,
    Launch,
    Loads,
    Model,
    Modes,
    Out,
    Repeats,
    Report,
    Server,
    SfiOption,
    SloTpot,
    SloTtft,
    json_object,
    known,
    numbers,
    sfi_option,
)
from sfi_sglang.trajectory.experiment import Cell, Experiment, Work
from sfi_sglang.trajectory.filler import corpus
from sfi_sglang.trajectory.formats import Format, load, save
from sfi_sglang.trajectory.generate import generate
from sfi_sglang.trajectory.presets import PRESETS, preset
from sfi_sglang.trajectory.records import Header, Mode, Writer, read
from sfi_sglang.trajectory.replay import Replay
from sfi_sglang.trajectory.runners import Live, Recorded
from sfi_sglang.trajectory.workload import Workload

app = typer.Typer(
    help="Trajectory latency of agents: dense and SFI, on any OpenAI-compatible server.",
    no_args_is_help=True,
    add_completion=False,
)
REQUEST_TIMEOUT = 900.0  # seconds without a byte
RUNS = Path("runs/bench")
SMOKE_SFI = '{"budget": 512}'

PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": False}


def main() -> None:
    """The command `sfi-bench`. What the user can put right is one line in red, no traceback."""
    try:
        app()
    except (ValueError, RuntimeError, ConnectionError, FileNotFoundError) as error:
        Console(stderr=True).print(f"[red]{error}[/]", highlight=False)
        raise SystemExit(1) from None


@app.command(context_settings=PASS_ON)
def run(
    context: typer.Context,
    workload: Annotated[str, typer.Argument(help=f"{', '.join(PRESETS)}, or a trace or transcript (file or folder)")],
    server: Server = None,
    launch: Launch = None,
    loads: Loads = "1",
    repeats: Repeats = 3,
    modes: Modes = "dense,sfi",
    sfi: SfiOption = "true",
    cache: Cache = "cold",
    arrivals: Arrivals = "closed",
    settings: Annotated[
        str, typer.Option("--set", help='change a preset, as JSON, e.g. \'{"turns": 11, "seed": 3}\'')
    ] = "{}",
    limit: Annotated[int | None, typer.Option(min=1, help="first so many trajectories")] = None,
    tool_scale: Annotated[float, typer.Option(min=0, help="factor on the recorded tool waits")] = 1.0,
    tokenizer: Annotated[Path | None, typer.Option(help="tokenizer.json; none: the server's, or an estimate")] = None,
    model: Model = None,
    seed: int = 0,
    out: Out = None,
    reported: Report = True,
) -> None:
    """Fixed history: replay a workload, the replies forced to the recorded lengths; then write the report."""
    with endpoint_of(server, launch, context.args, model) as endpoint:
        count = from_tokenizer(tokenizer) if tokenizer else server_counter(endpoint)
        made = make_workload(workload, count, json_object("--set", settings), limit)
        client = make_client(endpoint.url, timeout=REQUEST_TIMEOUT, retries=0)
        option = sfi_option(sfi)
        dense = Replay(client, endpoint.model, tool_scale=tool_scale)
        works = [Recorded(trajectory, dense, option) for trajectory in made.trajectories]
        identity = {"sfi": option, "model": endpoint.model, "tool_scale": tool_scale, "seed": seed, "limit": limit}
        header = Header(
            workload=made.name, history="fixed", arrivals=arrivals, cache=cache, loads=numbers("--loads", loads),
            repeats=repeats, settings={**identity, "workload": made.about, "modes": modes},
        )  # fmt: skip
        calls = sum(len(trajectory.turns) for trajectory in made.trajectories)
        path = out or RUNS / f"{made.name}.jsonl"
        execute(endpoint, header, works, modes, calls, seed, path)
        if reported:
            report(path)


@app.command(context_settings=PASS_ON)
def live(
    context: typer.Context,
    programs: Annotated[
        str, typer.Argument(help=f"comma-separated: {', '.join(PROGRAMS)}")
    ] = "repo,data,research,fork-join",
    server: Server = None,
    launch: Launch = None,
    loads: Loads = "1",
    repeats: Repeats = 1,
    modes: Modes = "dense,sfi",
    sfi: SfiOption = "true",
    cache: Cache = "cold",
    tasks: Annotated[int | None, typer.Option(min=1, help="first so many tasks of each program")] = None,
    planned: Annotated[bool, typer.Option(help="tell the model which tool to call, for very small models")] = True,
    model: Model = None,
    out: Out = None,
    reported: Report = True,
) -> None:
    """Live: agent programs whose answers are checked; replies are fed back. Then write the report."""
    with endpoint_of(server, launch, context.args, model) as endpoint:
        path = out or RUNS / "live.jsonl"
        client = make_client(endpoint.url, timeout=REQUEST_TIMEOUT)
        option = sfi_option(sfi)
        chosen = [PROGRAMS[name]() for name in known("programs", programs, PROGRAMS)]
        works = [
            Live(client, endpoint.model, program, task, option, planned, path.with_suffix(""))
            for program in chosen
            for task in program.tasks[:tasks]
        ]
        identity = {"sfi": option, "model": endpoint.model, "planned": planned, "tasks": [work.id for work in works]}
        header = Header(
            workload=programs, history="live", arrivals="closed", cache=cache, loads=numbers("--loads", loads),
            repeats=repeats, settings={**identity, "modes": modes},
        )  # fmt: skip
        execute(endpoint, header, works, modes, len(works), 0, path)
        if reported:
            report(path)


@app.command()
def report(
    file: Annotated[Path, typer.Argument(help="result file of `run` or `live`")],
    other: Annotated[Path | None, typer.Argument(help="a baseline to compare with")] = None,
    out: Annotated[Path | None, typer.Option(help="folder; none: beside the file")] = None,
    slo_ttft: SloTtft = 2.0,
    slo_tpot: SloTpot = 0.05,
) -> None:
    """Write summary.json, report.md and index.html, a page that needs nothing else."""
    from sfi_sglang.trajectory.headline import headline
    from sfi_sglang.trajectory.report import write_report
    from sfi_sglang.trajectory.summary import Slo, summarise

    results, baseline = read(file), read(other) if other else None
    slo = Slo(ttft=slo_ttft, tpot=slo_tpot)
    paths = write_report(results, out or file.with_suffix(""), baseline, slo)
    console.print(headline(summarise(results, slo, baseline)), highlight=False)
    console.print(*paths, sep="\n", soft_wrap=True)


@app.command()
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


@app.command()
def smoke(context: typer.Context, out: Annotated[Path, typer.Option(help="folder")] = RUNS / "smoke") -> None:
    """Everything once, in minutes on a CPU: the embedded model, all agents live, one preset with fixed history."""
    with endpoint_of(None, "embedded", [], None) as endpoint:
        live(context, server=endpoint.url, sfi=SMOKE_SFI, tasks=1, out=out / "live.jsonl")
        run(context, "smoke", server=endpoint.url, sfi=SMOKE_SFI, repeats=1, out=out / "fixed.jsonl")


@app.command()
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
        out.write_text(json.dumps({**provenance(), **result}, indent=1) + "\n")


@contextmanager
def endpoint_of(server: str | None, launch: str | None, flags: Sequence[str], model: str | None) -> Iterator[Endpoint]:
    """The given server, or one for the time of the command.

    Raises:
        ValueError: neither or both given.
    """
    if (server is None) == (launch is None):
        raise ValueError("give either --server URL or --launch MODEL")
    with connected(server, None if launch == "embedded" else launch, flags, log=RUNS / "server.log") as url:
        yield Endpoint.connect(url, model)


def execute(
    endpoint: Endpoint, header: Header, works: Sequence[Work], modes: str, calls: int, seed: int, path: Path
) -> None:
    """Run all cells with a progress bar over calls."""
    from sfi_sglang.client.provenance import provenance

    chosen: list[Mode] = known("--modes", modes, ("dense", "sfi"))
    header = header.model_copy(update={"provenance": {**provenance(), "server": endpoint.launch_command()}})
    writer = Writer(path, header, len(works))
    if writer.runs:
        console.print(f"going on with {path}: {len(writer.runs)} runs are there", soft_wrap=True)
    with progress(console) as bars:
        cells = len(chosen) * header.repeats * len(header.loads)
        finished = len(writer.runs) // len(works)
        bar = bars.add_task("calls", total=cells * calls, completed=finished * calls)

        def note(cell: Cell | None) -> None:
            if cell is None:
                bars.advance(bar)
            else:
                bars.update(bar, description=f"{cell.mode}, load {cell.load:g}, repeat {cell.repeat + 1}")

        Experiment(endpoint, header, works, chosen, seed, note).run(writer)


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
    from sfi_sglang.client.token_count import estimate

    made = generate(preset(name, **changes), count or estimate())
    if made.about["calls_left_out"]:
        console.print(f"{made.about['calls_left_out']} calls do not fit into max_context and are left out")
    return made.model_copy(update={"trajectories": made.trajectories[:limit]})


def server_counter(endpoint: Endpoint) -> Count:
    return from_server(endpoint.url, endpoint.model, "\n".join(corpus("code")[:10]))
