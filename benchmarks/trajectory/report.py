"""The report's files: summary.json, report.md and index.html, a page that needs nothing else."""

from pathlib import Path

from sfi_sglang.report.content import Alarm, Content, write_files
from sfi_sglang.report.markdown import document
from sfi_sglang.report.page import page as render
from sfi_sglang.trajectory.cells import Slo
from sfi_sglang.trajectory.compare import with_dense
from sfi_sglang.trajectory.headline import headline
from sfi_sglang.trajectory.origin import origin
from sfi_sglang.trajectory.plots import groups
from sfi_sglang.trajectory.records import Results
from sfi_sglang.trajectory.summary import Summary, summarise
from sfi_sglang.trajectory.tables import tables


def markdown(summary: Summary) -> str:
    return document(_content(summary))


def page(summary: Summary, results: Results) -> str:
    """One HTML file with Plotly's script inside."""
    return render(_content(summary), groups(summary, results), summary.model_dump_json(indent=1))


def write_report(results: Results, out: Path, other: Results | None = None, slo: Slo | None = None) -> list[Path]:
    """Write the three files into the folder `out`.

    Raises:
        ValueError: `other` is of another kind of run, see `compare`.
    """
    summary = summarise(results, slo, other)
    contents = {
        "summary.json": summary.model_dump_json(indent=1) + "\n",
        "report.md": markdown(summary),
        "index.html": page(summary, with_dense(results, other)),
    }
    return write_files(out, contents)


def _content(summary: Summary) -> Content:
    header, workload = summary.header, " ".join(summary.header.workload.split())
    where = [f"{header.provenance[name]}." for name in ("machine", "date") if header.provenance.get(name)]
    return Content(
        title=f"{workload}: dense and SFI",
        eyebrow=f"Trajectory benchmark · {workload} · {header.history} history · {header.cache} cache",
        headline=headline(summary),
        note=" ".join(["In parentheses 95% intervals.", *where]),
        alarms=_alarms(summary),
        tables=tables(summary),
        origin=origin(header),
    )


def _alarms(summary: Summary) -> list[Alarm]:
    found = []
    if summary.failures:
        failed, runs = len(summary.failures), sum(cell.runs for cell in summary.cells)
        found.append(
            Alarm(f"{failed} of {runs} trajectories failed:", "they have no time, and their pairs are left out.")
        )
    if summary.comparison and not summary.comparison.cells:
        found.append(Alarm("The two files have no mode and load in common."))
    return found
