"""`sfi-bench report`."""

from pathlib import Path
from typing import Annotated

import typer

from sfi_sglang.terminal import console
from sfi_sglang.trajectory.arguments import SloTpot, SloTtft
from sfi_sglang.trajectory.records import read


def report(
    file: Annotated[Path, typer.Argument(help="result file of `run` or `live`")],
    other: Annotated[Path | None, typer.Argument(help="a baseline to compare with")] = None,
    out: Annotated[Path | None, typer.Option(help="folder; none: beside the file")] = None,
    slo_ttft: SloTtft = 2.0,
    slo_tpot: SloTpot = 0.05,
) -> None:
    """Write summary.json, report.md and index.html, a page that needs nothing else."""
    from sfi_sglang.trajectory.cells import Slo
    from sfi_sglang.trajectory.headline import headline
    from sfi_sglang.trajectory.report import write_report
    from sfi_sglang.trajectory.summary import summarise

    results, baseline = read(file), read(other) if other else None
    slo = Slo(ttft=slo_ttft, tpot=slo_tpot)
    paths = write_report(results, out or file.with_suffix(""), baseline, slo)
    console.print(headline(summarise(results, slo, baseline)), highlight=False)
    console.print(*paths, sep="\n", soft_wrap=True)
