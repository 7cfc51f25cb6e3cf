"""`sfi-bench run`, `live` and `smoke`: measure on a server, then write the report."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from sfi_sglang.agents.programs import PROGRAMS
from sfi_sglang.client.endpoint import Endpoint
from sfi_sglang.client.file_names import usable
from sfi_sglang.client.openai_stream import make_client
from sfi_sglang.client.token_count import from_tokenizer
from sfi_sglang.report.modes import Mode
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
    json_object,
    known,
    load_values,
    sfi_option,
)
from sfi_sglang.trajectory.cli_report import report
from sfi_sglang.trajectory.cli_workload import make_workload, server_counter
from sfi_sglang.trajectory.experiment import Cell, Experiment, Work
from sfi_sglang.trajectory.presets import PRESETS
from sfi_sglang.trajectory.records import Header, Writer
from sfi_sglang.trajectory.replay import Replay
from sfi_sglang.trajectory.runners import Live, Recorded

REQUEST_TIMEOUT = 900.0  # seconds without a byte
RUNS = Path("runs/bench")
MODES: tuple[Mode, ...] = ("dense", "sfi")
SMOKE_SFI = '{"budget": 512, "recent": 256}'


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
    chosen, clients, option = known("--modes", modes, MODES), load_values(loads, arrivals), sfi_option(sfi)
    changes = json_object("--set", settings)
    with endpoint_of(server, launch, context.args, model, out.parent if out else RUNS) as endpoint:
        count = from_tokenizer(tokenizer) if tokenizer else server_counter(endpoint)
        made = make_workload(workload, count, changes, limit)
        client = make_client(endpoint.url, timeout=REQUEST_TIMEOUT, retries=0)
        dense = Replay(client, endpoint.model, tool_scale=tool_scale)
        works = [Recorded(trajectory, dense, option) for trajectory in made.trajectories]
        identity = {"sfi": option, "model": endpoint.model, "tool_scale": tool_scale, "seed": seed, "limit": limit}
        header = Header(
            workload=made.name, history="fixed", arrivals=arrivals, cache=cache, loads=clients,
            repeats=repeats, settings={**identity, "workload": made.about, "modes": modes},
        )  # fmt: skip
        calls = sum(len(trajectory.turns) for trajectory in made.trajectories)
        path = out or RUNS / usable(f"{made.name}.jsonl")
        execute(endpoint, header, works, chosen, calls, seed, path)
        if reported:
            report(path)


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
    planned: Annotated[
        bool, typer.Option("--planned/--unplanned", help="tell the model which tool to call, for very small models")
    ] = True,
    model: Model = None,
    out: Out = None,
    reported: Report = True,
) -> None:
    """Live: agent programs whose answers are checked; replies are fed back. Then write the report."""
    chosen, clients, option = known("--modes", modes, MODES), load_values(loads, "closed"), sfi_option(sfi)
    names = known("programs", programs, PROGRAMS)
    path = out or RUNS / "live.jsonl"
    with endpoint_of(server, launch, context.args, model, path.parent) as endpoint:
        client = make_client(endpoint.url, timeout=REQUEST_TIMEOUT)
        works = [
            Live(client, endpoint.model, program, task, option, planned, path.with_suffix(""))
            for program in (PROGRAMS[name]() for name in names)
            for task in program.tasks[:tasks]
        ]
        identity = {"sfi": option, "model": endpoint.model, "planned": planned, "tasks": [work.id for work in works]}
        header = Header(
            workload=programs, history="live", arrivals="closed", cache=cache, loads=clients,
            repeats=repeats, settings={**identity, "modes": modes},
        )  # fmt: skip
        execute(endpoint, header, works, chosen, len(works), 0, path)
        if reported:
            report(path)


def smoke(context: typer.Context, out: Annotated[Path, typer.Option(help="folder")] = RUNS / "smoke") -> None:
    """Everything once, in minutes on a CPU: the embedded model, all agents live, one preset with fixed history."""
    with endpoint_of(None, "embedded", [], None, out) as endpoint:
        live(context, server=endpoint.url, sfi=SMOKE_SFI, tasks=1, out=out / "live.jsonl")
        run(context, "smoke", server=endpoint.url, sfi=SMOKE_SFI, repeats=1, out=out / "fixed.jsonl")


@contextmanager
def endpoint_of(
    server: str | None, launch: str | None, flags: Sequence[str], model: str | None, folder: Path
) -> Iterator[Endpoint]:
    """The given server, or one for the time of the command. flags: of one that is launched; folder: for its log.

    Raises:
        ValueError: neither or both given, no URL, or flags for a server that runs already.
    """
    if (server is None) == (launch is None):
        raise ValueError("give either --server URL or --launch MODEL")
    if server and flags:
        raise ValueError(f"{' '.join(flags)}: flags are for a server that --launch starts")
    with connected(server, None if launch == "embedded" else launch, flags, log=folder / "server.log") as url:
        yield Endpoint.connect(url, model)


def execute(
    endpoint: Endpoint, header: Header, works: Sequence[Work], modes: Sequence[Mode], calls: int, seed: int, path: Path
) -> None:
    """Run all cells with a progress bar over calls."""
    from sfi_sglang.client.provenance import provenance

    header = header.model_copy(update={"provenance": {**provenance(), "server": endpoint.launch_command()}})
    writer = Writer(path, header, len(works))
    if writer.runs:
        console.print(f"going on with {path}: {len(writer.runs)} runs are there", soft_wrap=True)
    with progress(console) as bars:
        cells = len(modes) * header.repeats * len(header.loads)
        finished = len(writer.runs) // len(works)
        bar = bars.add_task("calls", total=cells * calls, completed=finished * calls)

        def note(cell: Cell | None) -> None:
            if cell is None:
                bars.advance(bar)
            else:
                bars.update(bar, description=f"{cell.mode}, load {cell.load:g}, repeat {cell.repeat + 1}")

        Experiment(endpoint, header, works, modes, seed, note).run(writer)
