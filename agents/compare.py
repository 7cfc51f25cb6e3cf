"""Tasks of a program in one or both modes on a running server, with a table of the outcomes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sfi_sglang.agents.loop import MAX_TOKENS, AgentResult
from sfi_sglang.agents.program import MAX_STEPS, Program, Task
from sfi_sglang.client.call import Call
from sfi_sglang.client.endpoint import Endpoint
from sfi_sglang.client.openai_stream import make_client
from sfi_sglang.terminal import progress

Modes = Mapping[str, bool | dict[str, Any] | None]  # name and request option
MAX_SHOWN = 60  # characters of an answer


@dataclass(frozen=True)
class Row:
    """One task's run in one mode."""

    task: Task
    mode: str
    result: AgentResult
    transcript: Path

    @property
    def right(self) -> bool:
        return self.task.check(self.result.answer)

    @property
    def cut(self) -> bool:
        """It ended without an answer, in a call that ran to the last token that it may have."""
        turns = self.result.turns
        return self.result.answer is None and bool(turns) and turns[-1].cut


def run_tasks(
    url: str,
    program: Program,
    tasks: Sequence[Task],
    modes: Modes,
    *,
    runs_dir: Path,
    console: Console,
    planned: bool = True,
    max_steps: int = MAX_STEPS,
) -> list[Row]:
    """Run each task in each mode and print the table. Transcripts go to runs_dir/PROGRAM/MODE.

    The radix cache is emptied before each run if there is more than one mode: they shall not help each other.

    Raises:
        ConnectionError: the server does not say which model it serves.
    """
    client, endpoint = make_client(url), Endpoint.connect(url)
    rows = []
    with progress(console) as bars:
        bar = bars.add_task(program.name, total=len(modes) * len(tasks))
        for number, task in enumerate(tasks):
            for mode in list(modes) if number % 2 == 0 else list(modes)[::-1]:
                bars.update(bar, description=f"{task.name}, {mode}")
                if len(modes) > 1:
                    endpoint.flush_cache()
                path = transcript_path(runs_dir / program.name, mode, task)
                result = program.run(
                    client, endpoint.model, task, sfi=modes[mode], planned=planned, max_steps=max_steps, transcript=path
                )
                rows.append(Row(task, mode, result, path))
                bars.advance(bar)
    show(rows, f"{program.name} on {endpoint.model}", console)
    return rows


def transcript_path(folder: Path, mode: str, task: Task) -> Path:
    return folder / mode / f"{task.name.replace(' ', '_')}.json"


def show(rows: Sequence[Row], title: str, console: Console) -> None:
    """The table, a summary line for each mode, and what differed in each run that is not right."""
    columns = ("task", "mode", "outcome", "calls", "failed", "seconds", "last prompt, tokens", "slow/fast steps")
    table = Table(*columns, title=title)
    for row in rows:
        turns, calls = row.result.turns, row.result.calls
        failed, longest = sum(turn.failed for turn in turns), max((call.prompt_tokens for call in calls), default=0)
        cells = (str(len(turns)), str(failed), f"{row.result.seconds:.1f}", str(longest), steps(calls))
        table.add_row(escape(row.task.name), row.mode, outcome(row), *cells)
    console.print(table)
    for mode in dict.fromkeys(row.mode for row in rows):
        own = [row for row in rows if row.mode == mode]
        caught = coverage(own)
        console.print(
            f"{mode}: right answers {sum(row.right for row in own)}/{len(own)}, "
            f"decode tokens per second, median over calls {decode_rate(own):.1f}"
            + ("" if caught is None else f", coverage {caught:.0%} of the attention at slow steps")
        )
    show_differences(rows, console)


def show_differences(rows: Sequence[Row], console: Console) -> None:
    for row in rows:
        if not row.right:
            console.print(f"{row.task.name}, {row.mode}: {difference(row)}", style="red", markup=False, soft_wrap=True)
            console.print(f"  transcript: {row.transcript}", markup=False, soft_wrap=True)


def outcome(row: Row) -> str:
    if row.cut:
        return "[red]cut[/]"
    if row.result.finish_reason != "answered":
        return f"[red]{row.result.finish_reason.replace('_', ' ')}[/]"
    return "[green]right[/]" if row.right else "[red]wrong[/]"


def difference(row: Row) -> str:
    """Of a run that is not right: what was expected, and what came instead."""
    expected = row.task.expected
    wanted = ", ".join(map(str, expected)) if isinstance(expected, tuple) else expected
    if row.result.error:
        got = row.result.error
    elif row.cut:
        got = f"a call without an end, cut at {MAX_TOKENS} tokens: {shorten(row.result.turns[-1].arguments)}"
    elif row.result.answer is None:
        got = "no answer within the steps"
    else:
        got = shorten(row.result.answer)
    return f"expected {wanted}, got {got}"


def shorten(text: str) -> str:
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 4] + " ..."


def steps(calls: Sequence[Call]) -> str:
    """Slow and fast steps, with a mark where SFI was asked for and each step was dense."""
    reports = [call.sfi for call in calls if call.sfi]
    if not reports:
        return "-"
    slow, fast = (sum(report[kind] for report in reports) for kind in ("slow_steps", "fast_steps"))
    return f"{slow}/{fast}" if fast or not slow else f"{slow}/0, never acted"


def coverage(rows: Sequence[Row]) -> float | None:
    """Mean over the calls that report it."""
    reports = [call.sfi for row in rows for call in row.result.calls if call.sfi]
    found = [report["coverage"] for report in reports if report.get("coverage") is not None]
    return mean(found) if found else None


def decode_rate(rows: Sequence[Row]) -> float:
    """Median over all calls of tokens per second after the first token; 0 without calls."""
    calls = [call for row in rows for call in row.result.calls if call.output_tokens > 1 and call.decode_seconds > 0]
    return median((call.output_tokens - 1) / call.decode_seconds for call in calls) if calls else 0.0
