"""Numbers of continued texts: agreement by kind of text and by the age of the selection, coverage by head."""

from collections.abc import Iterable, Sequence

from sfi_sglang.client.call import Record
from sfi_sglang.evals.outcomes import Outcome
from sfi_sglang.evals.statistics import Estimate, mean_over, share_over

AGES = ((0, 0), (1, 4), (5, 8), (9, 16), (17, 32), (33, 64), (65, None))  # tokens since the last refresh


class Agreement(Record):
    """chosen: share of tokens that dense attention would have chosen too. divergence: from dense, nats a token. Both
    with intervals over texts, because a text's tokens are not independent. kind: of text."""

    variant: str
    kind: str
    texts: int
    tokens: int
    chosen: Estimate
    divergence: Estimate


class Since(Record):
    """The same for tokens that were written `age` tokens after the last refresh; 0: by the slow step itself."""

    variant: str
    age: str
    texts: int
    tokens: int
    chosen: Estimate
    divergence: Estimate


class Head(Record):
    """Mean share of the attention at slow steps that the selection, sink and recent tokens caught, over texts."""

    variant: str
    layer: int
    head: int
    texts: int
    coverage: Estimate


def agreement(outcomes: Iterable[Outcome]) -> list[Agreement]:
    groups: dict[tuple[str, str], list[Outcome]] = {}
    for outcome in outcomes:
        if outcome.chosen:
            groups.setdefault((outcome.variant, outcome.kind), []).append(outcome)
    return [
        Agreement(variant=variant, kind=kind, **_numbers([(o.chosen, o.divergence) for o in found]))
        for (variant, kind), found in groups.items()
    ]


def since_refresh(outcomes: Iterable[Outcome]) -> list[Since]:
    """Of the variants that told of a refresh; all of them list the first token, 0, which the prefill made."""
    groups: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        if outcome.chosen and outcome.refreshes:
            groups.setdefault(outcome.variant, []).append(outcome)
    found = []
    refreshed = {v: texts for v, texts in groups.items() if any(len(text.refreshes) > 1 for text in texts)}
    for variant, texts in refreshed.items():
        for low, high in AGES:
            parts = [_of_age(outcome, low, high) for outcome in texts]
            if parts := [part for part in parts if part[0]]:
                found.append(Since(variant=variant, age=age_name(low, high), **_numbers(parts)))
    return found


def age_name(low: int, high: int | None) -> str:
    return f">{low - 1}" if high is None else str(low) if low == high else f"{low}–{high}"


def ages(outcome: Outcome) -> list[int]:
    """By position: tokens since the last refresh."""
    refreshes, found = set(outcome.refreshes), list[int]()
    for position in range(len(outcome.chosen)):
        found.append(0 if position in refreshes or not found else found[-1] + 1)
    return found


def _of_age(outcome: Outcome, low: int, high: int | None) -> tuple[list[bool], list[float]]:
    places = [i for i, age in enumerate(ages(outcome)) if low <= age and (high is None or age <= high)]
    return [outcome.chosen[i] for i in places], [outcome.divergence[i] for i in places]


def _numbers(texts: Sequence[tuple[Sequence[bool], Sequence[float]]]) -> dict[str, int | Estimate]:
    """texts: chosen and divergence of each, by token."""
    return {
        "texts": len(texts),
        "tokens": sum(len(chosen) for chosen, _ in texts),
        "chosen": share_over([(sum(chosen), len(chosen)) for chosen, _ in texts]),
        "divergence": mean_over([(sum(nats), len(nats)) for _, nats in texts]),
    }


def heads(outcomes: Iterable[Outcome]) -> list[Head]:
    """By variant, layer and KV head; texts without a slow step that tells it are left out."""
    groups: dict[tuple[str, int, int], list[float]] = {}
    for outcome in outcomes:
        for layer, by_head in enumerate(outcome.coverage or []):
            for head, value in enumerate(by_head):
                groups.setdefault((outcome.variant, layer, head), []).append(value)
    return [
        Head(
            variant=variant,
            layer=layer,
            head=head,
            texts=len(found),
            coverage=mean_over([(value, 1) for value in found], most=1.0),
        )
        for (variant, layer, head), found in groups.items()
    ]
