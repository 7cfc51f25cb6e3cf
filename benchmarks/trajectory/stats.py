"""Quantiles, and ratios with their intervals: what the report computes, by NumPy and SciPy."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
from scipy import stats

from sfi_sglang.client.call import Record

FEWEST = 3  # trajectories that a bootstrap interval is given for
LEVEL = 0.95
RESAMPLES = 9999
SEED = 0
Floats = npt.NDArray[np.float64]


class Distribution(Record):
    """In seconds; None where there is nothing (n is 0)."""

    n: int
    mean: float | None = None
    p50: float | None = None
    p90: float | None = None
    p99: float | None = None


class Interval(Record):
    """Of 95%."""

    low: float
    high: float


class Ratio(Record):
    """Mean of the baseline over mean of the other: above 1 the other is faster. interval: None if too few."""

    value: float
    interval: Interval | None
    trajectories: int

    @property
    def verdict(self) -> str:
        """`faster` or `slower` if the interval excludes 1, else `unclear`; `too few` without an interval."""
        if self.interval is None:
            return "too few"
        if self.interval.low > 1:
            return "faster"
        return "slower" if self.interval.high < 1 else "unclear"


class Proportion(Record):
    successes: int
    n: int
    rate: float
    interval: Interval


def describe(values: Sequence[float]) -> Distribution:
    if not len(values):
        return Distribution(n=0)
    p50, p90, p99 = np.quantile(values, [0.5, 0.9, 0.99])
    return Distribution(n=len(values), mean=float(np.mean(values)), p50=float(p50), p90=float(p90), p99=float(p99))


def mean_interval(values: Mapping[str, Sequence[float]]) -> Interval | None:
    """Of the mean of all values, by a bootstrap over the trajectories that they are keyed by.

    Repeats of a trajectory are not independent samples, so a trajectory is drawn with all its values.
    """
    if not values:
        return None
    return _bootstrap(_totals(values.values()), _mean)


def ratio(values: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> Ratio | None:
    """Ratio of the means of a baseline's and another's values, keyed by trajectory; bootstrap as in `mean_interval`.

    A trajectory that lacks values on either side is left out. None: nothing is left.
    """
    pairs = [pair for pair in values.values() if pair[0] and pair[1]]
    if not any(sum(second) for _, second in pairs):
        return None
    samples = (*_totals(first for first, _ in pairs), *_totals(second for _, second in pairs))

    value = float(_ratio_of_means(*samples, axis=0))
    return Ratio(value=value, interval=_bootstrap(samples, _ratio_of_means), trajectories=len(pairs))


def _mean(total: Floats, n: Floats, axis: int) -> Floats:
    return np.asarray(total.sum(axis) / n.sum(axis))


def _ratio_of_means(first: Floats, n_first: Floats, second: Floats, n_second: Floats, axis: int) -> Floats:
    return _mean(first, n_first, axis) / _mean(second, n_second, axis)


def _totals(values: Iterable[Sequence[float]]) -> tuple[Floats, Floats]:
    """Sum and number of each trajectory's values."""
    sums, counts = zip(*((sum(v), len(v)) for v in values), strict=True)
    return np.array(sums, float), np.array(counts, float)


def _bootstrap(samples: Sequence[Floats], statistic: Callable[..., Floats]) -> Interval | None:
    if len(samples[0]) < FEWEST:
        return None
    result = stats.bootstrap(
        samples,
        statistic,
        paired=True,
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=1000,
        confidence_level=LEVEL,
        method="percentile",  # the default, BCa, is undefined where all trajectories agree
        rng=np.random.default_rng(SEED),
    )
    low, high = result.confidence_interval
    return Interval(low=float(low), high=float(high))


def proportion(outcomes: Sequence[bool]) -> Proportion | None:
    """With Wilson's interval; None without outcomes."""
    if not outcomes:
        return None
    test = stats.binomtest(sum(outcomes), len(outcomes))
    low, high = test.proportion_ci(LEVEL, method="wilson")
    interval = Interval(low=float(low), high=float(high))
    return Proportion(successes=sum(outcomes), n=len(outcomes), rate=float(test.statistic), interval=interval)
