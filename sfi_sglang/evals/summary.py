"""From answers to a table: shares with intervals, and the difference from dense over the same items."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sfi_sglang.evals.outcomes import Outcome
from sfi_sglang.evals.statistics import Estimate, difference, mean, share
from sfi_sglang.evals.variants import DENSE

ABLE = 0.9  # of a task's items that the dense model must get right before a comparison means anything


@dataclass(frozen=True)
class Row:
    """One kind of task at one length. right: share of each variant. against: difference of each from dense, if dense
    was asked. able: does the dense model manage the task?"""

    task: str
    kind: str
    length: int
    trials: int
    right: dict[str, Estimate]
    against: dict[str, Estimate]
    able: bool


def rows(outcomes: Iterable[Outcome]) -> list[Row]:
    """In the order in which the kinds were first answered."""
    groups: dict[tuple[str, str, int], dict[str, dict[int, bool]]] = {}
    for outcome in outcomes:
        if outcome.right is not None:
            group = groups.setdefault((outcome.task, outcome.kind, outcome.length), {})
            group.setdefault(outcome.variant, {})[outcome.seed] = outcome.right
    return [_row(*key, answers) for key, answers in groups.items()]


def _row(task: str, kind: str, length: int, answers: dict[str, dict[int, bool]]) -> Row:
    right = {variant: share(sum(found.values()), len(found)) for variant, found in answers.items()}
    dense = answers.get(DENSE, {})
    against = {}
    for variant, found in answers.items():
        both = [seed for seed in found if seed in dense]
        if variant != DENSE and both:
            against[variant] = difference([found[seed] for seed in both], [dense[seed] for seed in both])
    able = DENSE in right and right[DENSE].value >= ABLE
    return Row(task, kind, length, max(map(len, answers.values())), right, against, able)


def markdown(found: Sequence[Row]) -> str:
    """One table; rows that the dense model does not manage come last, by name only."""
    able = [row for row in found if row.able]
    lines = []
    if able:
        variants = list(able[0].right)
        lines.append(f"| task | tokens | {' | '.join(variants)} |")
        lines.append("|---|---|" + "---|" * len(variants))
        for row in able:
            cells = [cell(row, variant) for variant in variants]
            lines.append(f"| {row.task}: {row.kind} | {row.length} | {' | '.join(cells)} |")
        lines.append("")
    if weak := [row for row in found if not row.able]:
        names = (f"{row.task}: {row.kind} at {row.length} ({row.right[DENSE].value:.0%})" for row in weak)
        lines.append(f"Not shown, as the dense model gets less than {ABLE:.0%} right: {', '.join(names)}.")
    return "\n".join(lines) + "\n"


def agreement_markdown(outcomes: Iterable[Outcome]) -> str:
    """Share of tokens that dense attention would have chosen too and mean divergence in nats, by kind of text; the
    interval is of means over the texts, because a text's tokens are not independent."""
    groups: dict[str, dict[str, list[Outcome]]] = {}
    for outcome in outcomes:
        if outcome.chosen:
            groups.setdefault(outcome.variant, {}).setdefault(outcome.kind, []).append(outcome)
    kinds = list(dict.fromkeys(kind for found in groups.values() for kind in found))
    lines = [f"| variant | {' | '.join(kinds)} |"]
    lines.append("|---|" + "---|" * len(kinds))
    for variant, found in groups.items():
        lines.append(f"| {variant} | {' | '.join(agreement_cell(found.get(kind, [])) for kind in kinds)} |")
    return "\n".join(lines) + "\n"


def agreement_cell(found: Sequence[Outcome]) -> str:
    if not found:
        return ""
    chosen = mean([sum(outcome.chosen) / len(outcome.chosen) for outcome in found])
    nats = mean([sum(outcome.divergence) / len(outcome.divergence) for outcome in found])
    interval = f" ({max(chosen.low, 0):.1%} to {min(chosen.high, 1):.1%})" if len(found) > 1 else ""
    return f"{chosen.value:.1%}{interval}, {nats.value:.3f} nats"


def cell(row: Row, variant: str) -> str:
    """Share right, and the difference from dense in points with its interval of 95%."""
    if variant not in row.right:
        return ""
    text = f"{row.right[variant].value:.1%}"
    if variant in row.against:
        gap = row.against[variant]
        text += f" ({100 * gap.value:+.1f}, {100 * gap.low:+.1f} to {100 * gap.high:+.1f})"
    return text
