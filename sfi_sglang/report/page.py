"""A report as one HTML file that needs nothing else, with Plotly's script inside."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import plotly.graph_objects as go
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from sfi_sglang.report.content import Content
from sfi_sglang.report.plot_style import finished, legend

HTML = Environment(
    loader=FileSystemLoader(Path(__file__).with_name("templates")),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    autoescape=True,
)


@dataclass(frozen=True)
class PlotGroup:
    """Figures under one title, by the ids of their places on the page. Those without data are left out."""

    title: str
    note: str
    figures: Mapping[str, go.Figure]


def page(content: Content, groups: Sequence[PlotGroup], summary: str) -> str:
    """summary: as JSON, kept in the page. Numbers of the tables name their place in it."""
    drawn = [(group, finished(group.figures)) for group in groups]
    figures = {name: figure for _, found in drawn for name, figure in found.items()}
    return HTML.get_template("page.html").render(
        content=content,
        groups=[(group, list(found)) for group, found in drawn if found],
        plots={name: _json(figure.to_json()) for name, figure in figures.items()},
        legends={name: legend(figure) for name, figure in figures.items()},
        data=_json(summary),
        plotly=Markup(get_plotlyjs()),
    )


def _json(text: str) -> Markup:
    """JSON that no HTML in it can end: a <script> element's text is not unescaped."""
    return Markup(text.replace("<", "\\u003c"))
