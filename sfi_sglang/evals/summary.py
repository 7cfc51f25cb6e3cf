"""From answers to numbers: every number that the report shows, as one JSON object."""

import statistics
from collections.abc import Iterable, Sequence

from sfi_sglang.client.call import Record
from sfi_sglang.evals.continued import Agreement, Head, Since, agreement, heads, since_refresh
from sfi_sglang.evals.outcomes import Header, Outcome
from sfi_sglang.evals.statistics import Estimate, difference, share
from sfi_sglang.evals.variants import DENSE

ABLE = 0.9  # of a task's items that the dense model must get right before a comparison means anything
LIVE = ("carry", "agents")  # tasks that are shown however few the dense model gets right
AS_SERVED = ("sfi", "fresh")  # what SFI is called that is like a request which names no option but the budget
DEPTHS = 4  # bins of the depth

Answers = dict[tuple[int, int], bool]  # by the question's seed and the number of what was asked for


class Share(Record):
    """right: share of the `n` answers of a variant. against: its difference from dense over the same items, None for
    dense itself and where dense was not asked."""

    variant: str
    n: int
    right: Estimate
    against: Estimate | None


class Row(Record):
    """One kind of task at one length (tokens; None: nobody chose it). able: the dense model manages the task."""

    task: str
    kind: str
    length: int | None
    able: bool
    shares: list[Share]


class Depth(Record):
    """Right answers of `n` by one variant, where the answer stands between `low` and `high` of the prompt (0 to 1)."""

    task: str
    kind: str
    length: int
    variant: str
    low: float
    high: float
    right: int
    n: int


class Carried(Record):
    """What a carry mode's requests after the first turn cost. inherited: share of their prompt tokens.
    first_token_seconds: their median, None from a server that tells none."""

    variant: str
    slow_steps: float
    inherited: float
    first_token_seconds: float | None


class Summary(Record):
    header: Header
    rows: list[Row]
    depths: list[Depth]
    agreement: list[Agreement]
    since_refresh: list[Since]
    coverage: list[Head]
    carry: list[Carried]


def summarise(header: Header, outcomes: Sequence[Outcome]) -> Summary:
    return Summary(
        header=header,
        rows=rows(outcomes),
        depths=depths(outcomes),
        agreement=agreement(outcomes),
        since_refresh=since_refresh(outcomes),
        coverage=heads(outcomes),
        carry=carried(outcomes),
    )


def rows(outcomes: Iterable[Outcome]) -> list[Row]:
    """Task by task, its kinds in the order in which they were first answered; each row's variants too."""
    groups: dict[tuple[str, str, int | None], dict[str, Answers]] = {}
    for outcome in outcomes:
        for number, right in enumerate(outcome.right):
            group = groups.setdefault((outcome.task, outcome.kind, outcome.length), {})
            group.setdefault(outcome.variant, {})[outcome.seed, number] = right
    tasks = list(dict.fromkeys(task for task, _, _ in groups))
    return [_row(*key, groups[key]) for key in sorted(groups, key=lambda key: tasks.index(key[0]))]


def _row(task: str, kind: str, length: int | None, answers: dict[str, Answers]) -> Row:
    shares = [_share(variant, found, answers.get(DENSE, {})) for variant, found in answers.items()]
    able = any(found.variant == DENSE and found.right.value >= ABLE for found in shares)
    return Row(task=task, kind=kind, length=length, able=able, shares=shares)


def _share(variant: str, found: Answers, dense: Answers) -> Share:
    both = [item for item in found if item in dense] if variant != DENSE else []
    against = difference([found[item] for item in both], [dense[item] for item in both]) if both else None
    return Share(variant=variant, n=len(found), right=share(sum(found.values()), len(found)), against=against)


def depths(outcomes: Iterable[Outcome]) -> list[Depth]:
    counts: dict[tuple[str, str, int, str, int], list[bool]] = {}
    for outcome in outcomes:
        if outcome.depth is not None and outcome.length is not None:
            bin = min(int(outcome.depth * DEPTHS), DEPTHS - 1)
            key = (outcome.task, outcome.kind, outcome.length, outcome.variant, bin)
            counts.setdefault(key, []).extend(outcome.right)
    return [
        Depth(
            task=task, kind=kind, length=length, variant=variant,
            low=bin / DEPTHS, high=(bin + 1) / DEPTHS, right=sum(found), n=len(found),
        )
        for (task, kind, length, variant, bin), found in counts.items()
    ]  # fmt: skip


def carried(outcomes: Iterable[Outcome]) -> list[Carried]:
    by_variant: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        if outcome.turns:
            by_variant.setdefault(outcome.variant, []).append(outcome)
    return [_carried(variant, found) for variant, found in by_variant.items()]


def _carried(variant: str, found: Sequence[Outcome]) -> Carried:
    turns = [outcome.turns for outcome in found if outcome.turns]
    requests, prompts = (sum(getattr(turn, name) for turn in turns) for name in ("requests", "prompt_tokens"))
    seconds = [value for turn in turns for value in turn.first_token_seconds]
    return Carried(
        variant=variant,
        slow_steps=sum(turn.slow_steps for turn in turns) / requests,
        inherited=sum(turn.inherited_tokens for turn in turns) / prompts if prompts else 0.0,
        first_token_seconds=statistics.median(seconds) if seconds else None,
    )
