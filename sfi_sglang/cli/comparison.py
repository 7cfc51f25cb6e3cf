"""`sfi-sglang doctor --against`: what another SGLang has of the names that SFI uses, read from its source."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from sfi_sglang import sglang_symbols
from sfi_sglang.cli.sglang_source import SGLangSource


@dataclass(frozen=True)
class Comparison:
    """missing: names without which something is refused. missing_helps: names without which nothing is.
    changed: functions whose parameters are not those that `beside` has, as (there, beside)."""

    version: str
    beside: str
    names: int
    missing: list[str]
    missing_helps: list[str]
    changed: dict[str, tuple[str | None, str | None]]

    def statement(self) -> str:
        helps = f" and {len(self.missing_helps)} optional" if self.missing_helps else ""
        return (
            f"SGLang {self.version}: {len(self.missing)}{helps} of {self.names} names missing, "
            f"{len(self.changed)} with other parameters than in {self.beside}, which is installed"
        )


def compare(path: Path, installed: SGLangSource) -> Comparison:
    """
    Raises:
        ValueError: there is no SGLang at this path.
    """
    other, helps = SGLangSource(path), sglang_symbols.OPTIONAL_TARGETS
    names = (*sglang_symbols.needed(), *helps)
    missing, changed = [], {}
    for name in names:
        try:
            there = other.parameters(name)
        except LookupError:
            missing.append(name)
            continue
        if there != (here := installed.parameters(name)):
            changed[name] = (there, here)
    needed = [name for name in missing if name not in helps]
    optional = [name for name in missing if name in helps]
    return Comparison(other.version, installed.version, len(names), needed, optional, changed)


def show(comparisons: Iterable[Comparison], console: Console) -> None:
    for found in comparisons:
        console.print(found.statement(), soft_wrap=True, highlight=False)
        for name in found.missing:
            console.print(f"  [red]missing[/]  {name}", soft_wrap=True, highlight=False)
        for name in found.missing_helps:
            console.print(
                f"  [yellow]missing[/]  {name} (nothing is refused without it)", soft_wrap=True, highlight=False
            )
        for name, (there, here) in found.changed.items():
            console.print(f"  [yellow]changed[/]  {name}", soft_wrap=True, highlight=False)
            console.print(escape(f"    ({there})\n    ({here}) in {found.beside}"), soft_wrap=True, highlight=False)
