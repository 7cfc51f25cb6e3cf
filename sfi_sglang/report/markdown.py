"""A report as Markdown. Plain Python: it is there without the extra `bench` as well."""

import re
from collections.abc import Iterable

from sfi_sglang.report.content import Content
from sfi_sglang.report.fields import Table

# What means something to Markdown anywhere in a line, and what makes links of addresses.
MARKED = re.compile(r"[\\`*_\[\]<>|~&$#@]|:(?=//)|(?<=www)\.", re.IGNORECASE)


def escaped(value: str) -> str:
    """One line that Markdown shows as it is, in a table as well."""
    return " ".join(MARKED.sub(r"\\\g<0>", value).split())


def document(content: Content) -> str:
    parts = [f"# {escaped(content.title)}", f"**{escaped(content.headline)}**"]
    parts += [f"🔴 **{escaped(alarm.what)}** {escaped(alarm.why)}".strip() for alarm in content.alarms]
    parts += [section(table) for table in content.tables]
    rows = [f"| {escaped(name)} | {escaped(value)} |" for name, value in content.origin]
    parts += ["## Where it comes from", "\n".join(["| | |", "|---|---|", *rows])]
    return "\n\n".join(parts) + "\n"


def section(table: Table) -> str:
    """A heading, the note and the table."""
    lines = [_line(escaped(title) for title in table.head), "|" + "---|" * len(table.head)]
    lines += [_line("🔴 " * field.bad + escaped(field.text) for field in row) for row in table.rows]
    return "\n\n".join(filter(None, (f"## {escaped(table.title)}", escaped(table.note), "\n".join(lines))))


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
