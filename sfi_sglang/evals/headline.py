"""The result in one sentence."""

from sfi_sglang.evals.summary import AS_SERVED, LIVE, Summary
from sfi_sglang.evals.variants import DENSE

SFI = AS_SERVED[0]


def headline(summary: Summary) -> str:
    said = [*_answers(summary), *_agreement(summary)]
    return (
        f"{'; '.join(said)}." if said else "Nothing compares SFI as served with dense attention here: see the tables."
    )


def _answers(summary: Summary) -> list[str]:
    """By task, over the rows that the dense model manages, or all where answers are few anyway."""
    counts: dict[str, dict[str, list[float]]] = {}
    for row in summary.rows:
        if row.able or row.task in LIVE:
            for share in row.shares:
                name = SFI if share.variant in AS_SERVED else share.variant
                found = counts.setdefault(row.task, {}).setdefault(name, [0.0, 0.0])
                found[0] += share.right.value * share.n
                found[1] += share.n
    told = [
        f"{task} {_percent(found[SFI])} ({_percent(found[DENSE])})"
        for task, found in counts.items()
        if {SFI, DENSE} <= found.keys()
    ]
    return [f"Right answers of SFI (of dense): {', '.join(told)}"] if told else []


def _agreement(summary: Summary) -> list[str]:
    told = {}
    for variant in (SFI, DENSE):
        found = [entry for entry in summary.agreement if entry.variant == variant]
        if tokens := sum(entry.tokens for entry in found):
            told[variant] = sum(entry.chosen.value * entry.tokens for entry in found) / tokens
    if told.keys() != {SFI, DENSE}:
        return []
    return [f"dense attention would have chosen {told[SFI]:.1%} of SFI's tokens ({told[DENSE]:.1%} of its own)"]


def _percent(found: list[float]) -> str:
    return f"{found[0] / found[1]:.1%}"
