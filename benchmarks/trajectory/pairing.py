"""Which runs are compared with which, and the ratio of their times."""

from collections import defaultdict
from collections.abc import Sequence

from sfi_sglang.client.call import Record
from sfi_sglang.trajectory.records import Run
from sfi_sglang.trajectory.stats import Ratio, ratio


class Pairing(Record):
    """Runs of equal trajectory and repeat in two cells, a baseline and another.

    time: mean trajectory time of the baseline over the other's; None without a pair.
    failed: pairs left out because either side failed. unmatched: runs that have no partner.
    """

    time: Ratio | None
    pairs: int
    failed: int
    unmatched: int


def complete(run: Run) -> bool:
    """Whether the run has a completion time. One without a call did nothing, however fast."""
    return bool(run.calls) and run.error is None and all(call.error is None for call in run.calls)


def pairs(baseline: Sequence[Run], other: Sequence[Run]) -> list[tuple[Run, Run]]:
    """Runs that match, failed ones too."""
    partners = {(run.trajectory, run.repeat): run for run in other}
    keys = [(run, partners.get((run.trajectory, run.repeat))) for run in baseline]
    return [(run, partner) for run, partner in keys if partner is not None]


def complete_pairs(baseline: Sequence[Run], other: Sequence[Run]) -> list[tuple[Run, Run]]:
    return [pair for pair in pairs(baseline, other) if all(map(complete, pair))]


def pairing(baseline: Sequence[Run], other: Sequence[Run]) -> Pairing:
    matched, usable = pairs(baseline, other), complete_pairs(baseline, other)
    times: dict[str, tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
    for first, second in usable:
        times[first.trajectory][0].append(first.seconds)
        times[first.trajectory][1].append(second.seconds)
    return Pairing(
        time=ratio(times),
        pairs=len(usable),
        failed=len(matched) - len(usable),
        unmatched=len(baseline) + len(other) - 2 * len(matched),
    )
