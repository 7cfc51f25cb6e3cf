"""The demo: one agent reads a logbook once, then reports each record densely and with SFI from the same history.

Both modes find the logbook in the radix cache, so what differs is the decoding alone.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import openai
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from sfi_sglang.agents.compare import Modes, Row, decode_rate, shorten, show_differences, steps, transcript_path
from sfi_sglang.agents.logbook import Completion, Logbook, reading
from sfi_sglang.agents.loop import AgentResult, Session
from sfi_sglang.agents.program import Task
from sfi_sglang.client.endpoint import Endpoint
from sfi_sglang.client.openai_stream import make_client

DENSE, SFI = "dense", "sfi"


def run_demo(url: str, program: Logbook, sfi: dict[str, Any], *, runs_dir: Path, console: Console) -> list[Row]:
    """Show the trajectory as it happens, then what SFI gained and cost. Transcripts go to runs_dir/MODE.

    Raises:
        ConnectionError: the server does not say which model it serves.
        RuntimeError: it failed.
    """
    endpoint = Endpoint.connect(url)
    console.print(f"An agent on {endpoint.model}, temperature 0. First it reads, as any agent does:")
    session = program.open(make_client(url), endpoint.model, program.tasks[0].question)
    read(session, console)
    options = ", ".join(f"{name} {value}" for name, value in sfi.items())
    console.print(f"Then it completes its report from this history, dense beside SFI ({options}):", highlight=False)
    modes: Modes = {DENSE: None, SFI: sfi}
    rows = report(session, program, modes, runs_dir, console)
    with console.status("all of them at once, as branches of an agent that forks"):
        together = {mode: at_once(session, program, sfi_of_mode) for mode, sfi_of_mode in modes.items()}
    show_differences(rows, console)
    close(rows, together, runs_dir, console)
    return rows


def read(session: Session, console: Console) -> None:
    """All pages, a line for each call."""
    for step in reading():
        try:
            session.work([step], 1)
        except openai.OpenAIError as error:
            raise RuntimeError(f"server: {error}") from None
        turn = session.turns[-1]
        call = turn.call
        said = f"  {turn.tool} {turn.arguments}: prompt {call.prompt_tokens:,} tokens, {call.seconds:.1f} s"
        console.print(said, markup=False, highlight=False)


def report(session: Session, program: Logbook, modes: Modes, runs_dir: Path, console: Console) -> list[Row]:
    """Each task in each mode, the one first that was second before, in a table that grows."""
    rows: list[Row] = []
    with Live(as_table(rows), console=console) as live:
        for number, task in enumerate(program.tasks):
            for mode in list(modes) if number % 2 == 0 else list(modes)[::-1]:
                branch = session.fork(session.tools)
                branch.sfi = modes[mode]
                path = transcript_path(runs_dir, mode, task)
                result = program.finish(branch, replace(task, plan=()), transcript=path)
                if result.error:
                    raise RuntimeError(f"server: {result.error}, transcript {path}")
                rows.append(Row(task, mode, result, path))
                live.update(as_table(rows))
    console.print()
    return rows


def as_table(rows: Sequence[Row]) -> Table:
    """Task by task, dense above SFI."""
    table = Table("begun for it", "mode", "the model goes on", "", "tokens/s", "slow/fast steps")
    tasks = list(dict.fromkeys(begins(row.task) for row in rows))
    for row in sorted(rows, key=lambda row: (tasks.index(begins(row.task)), row.mode)):
        said = (row.result.answer or "").removeprefix(begins(row.task))
        mark = "[green]right[/]" if row.right else "[red]wrong[/]"
        cells = (escape(shorten(said)), mark, f"{decode_rate([row]):.1f}", steps(row.result.calls))
        table.add_row(begins(row.task), row.mode, *cells, end_section=row.mode == SFI)
    return table


def at_once(session: Session, program: Logbook, sfi: bool | dict[str, Any] | None) -> float:
    """Tokens per second of all branches together, from the first token to the last.

    Raises:
        RuntimeError: the server failed.
    """

    def go_on(task: Completion) -> AgentResult:
        branch = session.fork(session.tools)
        branch.sfi = sfi
        return program.finish(branch, replace(task, plan=()))

    with ThreadPoolExecutor(len(program.tasks)) as pool:
        results = list(pool.map(go_on, program.tasks))
    for result in results:
        if result.error:
            raise RuntimeError(f"server: {result.error}")
    calls = [call for result in results for call in result.calls]
    began, ended = (pick(call.start + call.arrivals[i] for call in calls) for pick, i in ((min, 0), (max, -1)))
    return sum(call.output_tokens - 1 for call in calls) / (ended - began)


def begins(task: Task) -> str:
    return task.begins if isinstance(task, Completion) else task.question


def close(rows: Sequence[Row], together: Mapping[str, float], runs_dir: Path, console: Console) -> None:
    """Three lines: gained, cost, next."""
    dense, sfi = ([row for row in rows if row.mode == mode] for mode in (DENSE, SFI))
    lines = {
        "Gained": gained(dense, sfi, together),
        "Cost": cost(dense, sfi) + f" Transcripts: {runs_dir}.",
        "Next": "`sfi-sglang eval all --quick` asks for more than facts, `sfi-sglang serve MODEL` serves yours.",
    }
    for name, text in lines.items():
        console.print(f"[bold]{name}:[/] {text}", highlight=False, soft_wrap=True)


def gained(dense: Sequence[Row], sfi: Sequence[Row], together: Mapping[str, float]) -> str:
    calls = [call for row in sfi for call in row.result.calls]
    longest = max(call.prompt_tokens for call in calls)
    slow, fast = (sum(call.sfi[kind] for call in calls if call.sfi) for kind in ("slow_steps", "fast_steps"))
    if not fast:
        return f"nothing, for SFI never acted: {longest:,} tokens of context fit into what it keeps."
    rate, before = decode_rate(sfi), decode_rate(dense)
    return (
        f"{rate:.1f} tokens/s while decoding, dense {before:.1f} ({rate / before:.2f} times); {len(sfi)} at once "
        f"{together[SFI]:.1f}, dense {together[DENSE]:.1f} ({together[SFI] / together[DENSE]:.2f} times). "
        f"{fast} of {slow + fast} steps were fast, at {longest:,} tokens of context."
    )


def cost(dense: Sequence[Row], sfi: Sequence[Row]) -> str:
    before, after = (sum(row.right for row in rows) for rows in (dense, sfi))
    by_task = {row.task.name: row.result.answer for row in dense}
    same = sum(by_task[row.task.name] == row.result.answer for row in sfi)
    tasks = len(sfi)
    return f"right answers dense {before}/{tasks}, SFI {after}/{tasks}; {same} of {tasks} texts the same."
