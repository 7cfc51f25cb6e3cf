"""The report's words, and its files that need no extra: summary.json and report.md."""

from typing import Any

from sfi_sglang.evals.headline import headline
from sfi_sglang.evals.summary import Summary
from sfi_sglang.evals.tables import tables
from sfi_sglang.report.content import Content
from sfi_sglang.report.markdown import document


def content(summary: Summary) -> Content:
    header = summary.header
    where = [f"{header.provenance[name]}." for name in ("machine", "date") if header.provenance.get(name)]
    return Content(
        title=f"{header.model}: dense and SFI",
        eyebrow=f"Evaluation · {header.model} · {', '.join(header.settings)}",
        headline=headline(summary),
        note=" ".join(["In parentheses 95% intervals.", *where]),
        alarms=(),
        tables=tables(summary),
        origin=origin(summary),
    )


def origin(summary: Summary) -> list[tuple[str, str]]:
    """Each task's settings, then where it ran."""
    header = summary.header
    settings = [
        (task, ", ".join(f"{name} {value}" for name, value in found.items() if name != "variants"))
        for task, found in header.settings.items()
    ]
    return [("model", header.model), *settings, *((name, _said(value)) for name, value in header.provenance.items())]


def _said(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {version or 'not installed'}" for name, version in value.items())
    return "–" if value is None else str(value)


def plain_files(summary: Summary) -> dict[str, str]:
    """By name."""
    return {"summary.json": summary.model_dump_json(indent=1) + "\n", "report.md": document(content(summary))}
