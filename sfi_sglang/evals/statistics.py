"""How sure a share is, a difference of two shares over the same items, and a mean over texts."""

import math
from collections.abc import Sequence

from sfi_sglang.client.call import Record

Z = 1.96  # 95%
T = (  # the same of Student's t, by degrees of freedom from 1; Z beyond
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip


class Estimate(Record):
    """A value with its interval of 95%; low and high are None where it is not known."""

    value: float
    low: float | None
    high: float | None


def share(right: int, trials: int) -> Estimate:
    """Wilson's score interval. trials: 1 at least."""
    p, z2 = right / trials, Z * Z
    middle = (p + z2 / (2 * trials)) / (1 + z2 / trials)
    half = Z / (1 + z2 / trials) * math.sqrt(p * (1 - p) / trials + z2 / (4 * trials * trials))
    return Estimate(value=p, low=min(p, max(0.0, middle - half)), high=max(p, min(1.0, middle + half)))


def mean_over(groups: Sequence[tuple[float, int]], most: float = math.inf) -> Estimate:
    """Mean of values that come in groups, as tokens come in texts: only the groups are independent of each other.

    groups: sum and number of the values of each; numbers above 0. most: no value is larger, and none is below 0. The
    interval is that of the ratio of both sums, by Student's t; a single group has none.
    """
    total, count = sum(group for group, _ in groups), sum(number for _, number in groups)
    value, k = total / count, len(groups)
    if k < 2:
        return Estimate(value=value, low=None, high=None)
    spread = sum((group - value * number) ** 2 for group, number in groups) * k / (k - 1)
    half = (T[k - 2] if k - 2 < len(T) else Z) * math.sqrt(spread) / count
    return Estimate(value=value, low=max(0.0, value - half), high=min(most, value + half))


def share_over(groups: Sequence[tuple[int, int]]) -> Estimate:
    """The same of a share: right ones of each group and its number. Groups that agree by chance, as all of few being
    wholly right, do not make it surer than so many independent values would be."""
    found = mean_over(groups, most=1.0)
    if found.low is None or found.high is None:
        return found
    least = share(sum(right for right, _ in groups), sum(number for _, number in groups))
    low, high = min(found.low, least.low or 0.0), max(found.high, least.high or 0.0)
    return Estimate(value=found.value, low=low, high=high)


def difference(ours: Sequence[bool], theirs: Sequence[bool]) -> Estimate:
    """Share of `ours` less that of `theirs` over the same items, one at least: the interval of Agresti and Min (2005),
    which holds for few differing items too."""
    gained = sum(a and not b for a, b in zip(ours, theirs, strict=True))
    lost = sum(b and not a for a, b in zip(ours, theirs, strict=True))
    n, up, down = len(ours) + 2, gained + 0.5, lost + 0.5
    middle = (up - down) / n
    half = Z * math.sqrt(max(0.0, up + down - (up - down) ** 2 / n)) / n
    value = (gained - lost) / len(ours)
    return Estimate(value=value, low=max(-1.0, middle - half), high=min(1.0, middle + half))
