"""How sure a share is, and a difference of two shares over the same items."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

Z = 1.96  # 95%


@dataclass(frozen=True)
class Estimate:
    """A value with its interval of 95%."""

    value: float
    low: float
    high: float


def share(right: int, trials: int) -> Estimate:
    """Wilson's score interval."""
    if not trials:
        return Estimate(math.nan, 0.0, 1.0)
    p, z2 = right / trials, Z * Z
    middle = (p + z2 / (2 * trials)) / (1 + z2 / trials)
    half = Z / (1 + z2 / trials) * math.sqrt(p * (1 - p) / trials + z2 / (4 * trials * trials))
    return Estimate(p, min(p, max(0.0, middle - half)), max(p, min(1.0, middle + half)))


def mean(values: Sequence[float]) -> Estimate:
    """Of independent values; one value has no known interval."""
    middle = statistics.fmean(values)
    half = Z * statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.inf
    return Estimate(middle, middle - half, middle + half)


def difference(ours: Sequence[bool], theirs: Sequence[bool]) -> Estimate:
    """Share of `ours` less that of `theirs` over the same items: the interval of Agresti and Min (2005), which holds
    for few differing items too."""
    gained = sum(a and not b for a, b in zip(ours, theirs, strict=True))
    lost = sum(b and not a for a, b in zip(ours, theirs, strict=True))
    if not ours:
        return Estimate(math.nan, -1.0, 1.0)
    n, up, down = len(ours) + 2, gained + 0.5, lost + 0.5
    middle = (up - down) / n
    half = Z * math.sqrt(max(0.0, up + down - (up - down) ** 2 / n)) / n
    return Estimate((gained - lost) / len(ours), max(-1.0, middle - half), min(1.0, middle + half))
