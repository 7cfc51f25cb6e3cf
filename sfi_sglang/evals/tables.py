"""The summary as tables, for Markdown and the page alike."""

import json
from collections.abc import Collection, Iterable
from statistics import fmean

from sfi_sglang.evals.cells import NOTHING, agreement_field, interval, number, percent, share_field, words
from sfi_sglang.evals.continued import AGES, age_name
from sfi_sglang.evals.summary import ABLE, LIVE, Row, Summary
from sfi_sglang.evals.variants import DENSE
from sfi_sglang.report.fields import Field, Table

WORST = 10  # heads shown
PAIRED = "Share right; in parentheses the difference from dense over the same questions, in points, with its interval."


def tables(summary: Summary) -> list[Table]:
    """Those that have rows, and that of the answers where the dense model manages none of them."""
    answers = answers_table(summary)
    others = [
        agreement_table(summary),
        since_table(summary),
        coverage_table(summary),
        carry_table(summary),
        agents_table(summary),
        variants_table(summary),
        refused_table(summary),
    ]
    return [table for table in (answers, *others) if table.rows or (table is answers and table.note)]


def answers_table(summary: Summary) -> Table:
    """Rows that the dense model does not manage are named only: they say nothing about SFI."""
    asked = [row for row in summary.rows if row.task not in LIVE]
    weak = [f"{row.task}: {row.kind} at {row.length} ({_dense(row):.0%})" for row in asked if not row.able]
    note = PAIRED if asked else ""
    if weak:
        note += f" Not shown, as the dense model gets less than {ABLE:.0%} right: {', '.join(weak)}."
    return _rights(summary, "Right answers", note, {row.task for row in asked if row.able}, able=True)


def agents_table(summary: Summary) -> Table:
    return _rights(summary, "Agents", f"Tasks of live agent programs. {PAIRED}", ("agents",), able=False)


def _rights(summary: Summary, title: str, note: str, tasks: Collection[str], able: bool) -> Table:
    """able: only rows that the dense model manages."""
    shown = [(i, row) for i, row in enumerate(summary.rows) if row.task in tasks and (row.able or not able)]
    variants = _unique(share.variant for _, row in shown for share in row.shares)
    rows = []
    for i, row in shown:
        by_variant = {s.variant: share_field(f"rows.{i}.shares.{j}", s) for j, s in enumerate(row.shares)}
        counted = number(f"rows.{i}.shares.0.n", row.shares[0].n)
        length = number(f"rows.{i}.length", row.length, "d")
        cells = [by_variant.get(variant, NOTHING) for variant in variants]
        rows.append((words(f"{row.task}: {row.kind}"), length, counted, *cells))
    return Table(title, note, ("task", "tokens", "questions", *variants), rows)


def agreement_table(summary: Summary) -> Table:
    kinds = _unique(found.kind for found in summary.agreement)
    note = (
        "Share of the tokens written that dense attention would have chosen too, with an interval over texts, and how "
        "far the probabilities are from those of dense attention. Dense against itself: what rounding alone changes."
    )
    rows: list[tuple[Field, ...]] = []
    for variant in _unique(found.variant for found in summary.agreement):
        mine = {
            found.kind: agreement_field(f"agreement.{i}", found.chosen, found.divergence)
            for i, found in enumerate(summary.agreement)
            if found.variant == variant
        }
        rows.append((words(variant), *(mine.get(kind, NOTHING) for kind in kinds)))
    return Table("Agreement, by kind of text", note, ("variant", *kinds), rows)


def since_table(summary: Summary) -> Table:
    names = [age_name(*age) for age in AGES]
    note = (
        "The same by how many tokens before a selection was last made; 0: the token of the slow step itself, which "
        "sees everything."
    )
    rows: list[tuple[Field, ...]] = []
    for variant in _unique(found.variant for found in summary.since_refresh):
        mine = {
            found.age: agreement_field(f"since_refresh.{i}", found.chosen, found.divergence)
            for i, found in enumerate(summary.since_refresh)
            if found.variant == variant
        }
        rows.append((words(variant), *(mine.get(name, NOTHING) for name in names)))
    return Table("Agreement, by tokens since the last refresh", note, ("variant", *names), rows)


def coverage_table(summary: Summary) -> Table:
    """The heads whose attention the selection catches least."""
    rows: list[tuple[Field, ...]] = []
    means = []
    for variant in _unique(found.variant for found in summary.coverage):
        mine = [(i, found) for i, found in enumerate(summary.coverage) if found.variant == variant]
        means.append(f"{variant} {fmean(found.coverage.value for _, found in mine):.1%}")
        for i, found in sorted(mine, key=lambda pair: pair[1].coverage.value)[:WORST]:
            key = f"coverage.{i}"
            layer, head = number(f"{key}.layer", found.layer), number(f"{key}.head", found.head)
            caught = percent(f"{key}.coverage.value", found.coverage.value)
            rows.append((words(variant), layer, head, caught, interval(f"{key}.coverage", found.coverage)))
    note = (
        "Share of the attention at slow steps that falls on what fast steps saw before: the selection, sink and recent "
        f"tokens. Mean over all heads: {', '.join(means)}. Shown: the {WORST} heads of the lowest."
    )
    titles = ("variant", "layer", "KV head", "coverage", "95% interval")
    return Table("Coverage, the worst heads", note, titles, rows)


def carry_table(summary: Summary) -> Table:
    rows: list[tuple[Field, ...]] = []
    costs = {found.variant: (f"carry.{i}", found) for i, found in enumerate(summary.carry)}
    for i, row in enumerate(summary.rows):
        for j, share in enumerate(row.shares):
            if row.task == "carry" and share.variant in costs:
                key, cost = costs[share.variant]
                name = f"{share.variant}, {row.kind}, {row.length} tokens"
                found = share_field(f"rows.{i}.shares.{j}", share)
                asked = number(f"rows.{i}.shares.{j}.n", share.n)
                slow = number(f"{key}.slow_steps", cost.slow_steps, ".2f")
                inherited = percent(f"{key}.inherited", cost.inherited)
                first = number(f"{key}.first_token_seconds", cost.first_token_seconds, ".2f")
                rows.append((words(name), found, asked, slow, inherited, first))
    note = (
        f"Facts of a conversation's first turn, asked for in its last. {PAIRED} The other columns are of the requests "
        "after the first turn: slow steps of each, share of prompt tokens with an inherited selection, median seconds "
        "to the first token (of all lengths)."
    )
    head = ("mode", "facts found", "facts", "slow steps", "inherited", "first token, s")
    return Table("Memory over turns", note, head, rows)


def variants_table(summary: Summary) -> Table:
    """Each with its request, once however many tasks it was asked in."""
    found = {
        (label, json.dumps(sfi)): None
        for settings in summary.header.settings.values()
        for label, sfi in settings["variants"].items()
    }
    rows = [
        (words(label), words("no SFI" if sfi == "null" else sfi), words(summary.header.about.get(label, "")))
        for label, sfi in found
    ]
    return Table("What was compared", "", ("variant", "the request's sfi value", "what it is"), rows)


def refused_table(summary: Summary) -> Table:
    rows: list[tuple[Field, ...]] = [(words(label), words(why)) for label, why in summary.header.refused.items()]
    note = "This server does not take these variants, so nobody asked them."
    return Table("Left out", note, ("variant", "the server's reason"), rows)


def _dense(row: Row) -> float:
    return next((share.right.value for share in row.shares if share.variant == DENSE), 0.0)


def _unique(labels: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(labels))
