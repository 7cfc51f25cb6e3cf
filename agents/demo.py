"""The demo: every task by an agent, dense and with SFI, from a cold cache each time."""

from dataclasses import dataclass
from pathlib import Path
from statistics import median

import requests
from rich.console import Console
from rich.table import Table

from sfi_sglang.agents.loop import AgentResult, make_client, run_agent
from sfi_sglang.agents.tasks import Task, make_tasks
from sfi_sglang.agents.tools import Tree, toolbox
from sfi_sglang.terminal import progress


@dataclass(frozen=True)
class Row:
    """One task's two runs and whether their answers are right."""

    task: Task
    dense: AgentResult
    sfi: AgentResult

    @property
    def dense_ok(self) -> bool:
        return self.task.check(self.dense.answer)

    @property
    def sfi_ok(self) -> bool:
        return self.task.check(self.sfi.answer)


def run_demo(url: str, *, budget: int = 512, runs_dir: Path, console: Console) -> list[Row]:
    """Run all tasks on the server at `url` and print the table. Transcripts go to runs_dir/agent/{dense,sfi}.

    budget: tokens that SFI selects per KV head.
    """
    tree = Tree()
    tasks, tools, client = make_tasks(tree), toolbox(tree), make_client(url)
    model = client.models.list().data[0].id
    options = {"dense": None, "sfi": {"budget": budget}}
    rows = []
    with progress(console) as bars:
        bar = bars.add_task("agent", total=2 * len(tasks))
        for number, task in enumerate(tasks):
            results = {}
            for mode in ("dense", "sfi") if number % 2 == 0 else ("sfi", "dense"):
                bars.update(bar, description=f"{task.name}, {mode}")
                requests.post(f"{url}/flush_cache", timeout=30).raise_for_status()
                path = runs_dir / "agent" / mode / f"{task.name.replace(' ', '_')}.json"
                results[mode] = run_agent(
                    client, model, task.question, tools, plan=task.plan, sfi=options[mode], transcript=path
                )
                bars.advance(bar)
            rows.append(Row(task, **results))
    show(rows, budget, console)
    return rows


def show(rows: list[Row], budget: int, console: Console) -> None:
    """The table and the summary line."""
    title = f"Agent on {len(rows)} tasks, dense and SFI with budget {budget}"
    table = Table("task", "dense", "seconds", "SFI", "seconds", "slow/fast steps", "last prompt, tokens", title=title)
    for row in rows:
        slow, fast = steps(row.sfi, "slow_steps"), steps(row.sfi, "fast_steps")
        cells = [mark(row.dense_ok), f"{row.dense.seconds:.1f}", mark(row.sfi_ok), f"{row.sfi.seconds:.1f}"]
        table.add_row(row.task.name, *cells, f"{slow}/{fast}", f"{longest(row.dense)} / {longest(row.sfi)}")
    console.print(table)
    dense, sfi = sum(row.dense_ok for row in rows), sum(row.sfi_ok for row in rows)
    rates = [decode_rate([row.dense for row in rows]), decode_rate([row.sfi for row in rows])]
    console.print(
        f"right answers: dense {dense}/{len(rows)}, SFI {sfi}/{len(rows)}; "
        f"decode tokens per second, median over turns: dense {rates[0]:.1f}, SFI {rates[1]:.1f}"
    )


def mark(right: bool) -> str:
    return "[green]right[/]" if right else "[red]wrong[/]"


def steps(result: AgentResult, kind: str) -> int:
    return sum(turn.sfi[kind] for turn in result.turns if turn.sfi)


def longest(result: AgentResult) -> int:
    return max((turn.prompt_tokens for turn in result.turns), default=0)


def decode_rate(results: list[AgentResult]) -> float:
    """Median over all turns of tokens per second after the first token; 0 without turns."""
    turns = [turn for result in results for turn in result.turns if turn.completion_tokens > 1]
    return median((turn.completion_tokens - 1) / turn.decode_seconds for turn in turns) if turns else 0.0
