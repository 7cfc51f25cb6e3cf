"""The report's files: summary.json, report.md and index.html, a page that needs nothing else."""

import re
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from sfi_sglang.trajectory.cells import Slo
from sfi_sglang.trajectory.headline import headline
from sfi_sglang.trajectory.origin import origin
from sfi_sglang.trajectory.plot_style import legend
from sfi_sglang.trajectory.plots import figures
from sfi_sglang.trajectory.records import Results
from sfi_sglang.trajectory.summary import Summary, summarise
from sfi_sglang.trajectory.tables import tables

SHAPE: dict[str, Any] = {
    "loader": FileSystemLoader(Path(__file__).with_name("templates")),
    "undefined": StrictUndefined,
    "trim_blocks": True,
    "lstrip_blocks": True,
}
# What means something to Markdown anywhere in a line, and what makes links of addresses.
MARKED = re.compile(r"[\\`*_\[\]<>|~&$#@]|:(?=//)|(?<=www)\.", re.IGNORECASE)


def _escaped(value: object) -> str:
    """One line that Markdown shows as it is, in a table as well."""
    return " ".join(MARKED.sub(r"\\\g<0>", str(value)).split())


MARKDOWN = Environment(**SHAPE, finalize=_escaped)
HTML = Environment(**SHAPE, autoescape=True)


def markdown(summary: Summary) -> str:
    return MARKDOWN.get_template("report.md").render(_content(summary))


def page(summary: Summary, results: Results) -> str:
    """One HTML file with Plotly's script inside."""
    drawn = figures(summary, results)
    return HTML.get_template("page.html").render(
        _content(summary),
        plots={name: _json(figure.to_json()) for name, figure in drawn.items()},
        legends={name: legend(figure) for name, figure in drawn.items()},
        data=_json(summary.model_dump_json(indent=1)),
        plotly=Markup(get_plotlyjs()),
    )


def write_report(results: Results, out: Path, other: Results | None = None, slo: Slo | None = None) -> list[Path]:
    """Write the three files into the folder `out`.

    Raises:
        ValueError: `other` is of another kind of run, see `compare`.
    """
    summary = summarise(results, slo, other)
    out.mkdir(parents=True, exist_ok=True)
    contents = {
        "summary.json": summary.model_dump_json(indent=1) + "\n",
        "report.md": markdown(summary),
        "index.html": page(summary, results),
    }
    for name, content in contents.items():
        (out / name).write_text(content, encoding="utf-8")
    return [out / name for name in contents]


def _content(summary: Summary) -> dict[str, object]:
    return {
        "summary": summary,
        "headline": headline(summary),
        "tables": tables(summary),
        "origin": origin(summary.header),
    }


def _json(text: str) -> Markup:
    """JSON that no HTML in it can end: a <script> element's text is not unescaped."""
    return Markup(text.replace("<", "\\u003c"))
