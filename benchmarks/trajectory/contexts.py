"""Speed-up by context length: calls of both modes, binned by their prompt tokens."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from sfi_sglang.client.call import Call, Record
from sfi_sglang.trajectory.idle import idle
from sfi_sglang.trajectory.pairing import complete_pairs
from sfi_sglang.trajectory.records import Run
from sfi_sglang.trajectory.stats import Ratio, ratio


class ContextBin(Record):
    """Dense over SFI of calls with `low` <= prompt tokens < `high`, in pairs of complete runs.

    Only of trajectories that have such calls in both modes. idle_calls: SFI's calls in which it never acted.
    """

    load: float
    low: int
    high: int
    dense_calls: int
    sfi_calls: int
    idle_calls: int
    tpot: Ratio | None
    latency: Ratio | None


def contexts(load: float, dense: Sequence[Run], sfi: Sequence[Run]) -> list[ContextBin]:
    """By powers of two. The two modes' calls need not match: in live history they do not."""
    bins: dict[int, tuple[dict[str, list[Call]], dict[str, list[Call]]]] = {}
    for pair in complete_pairs(dense, sfi):
        for side, run in enumerate(pair):
            for call in run.calls:
                low = 2 ** int(np.log2(max(call.prompt_tokens, 1)))
                bins.setdefault(low, (defaultdict(list), defaultdict(list)))[side][run.trajectory].append(call)
    found = []
    for low, (first, second) in sorted(bins.items()):
        both = sorted(first.keys() & second.keys())
        calls = {key: (first[key], second[key]) for key in both}
        found.append(
            ContextBin(
                load=load,
                low=low,
                high=2 * low,
                dense_calls=sum(len(dense) for dense, _ in calls.values()),
                sfi_calls=sum(len(sfi) for _, sfi in calls.values()),
                idle_calls=sum(idle([call]) for _, sfi in calls.values() for call in sfi),
                tpot=ratio({key: (_tpots(dense), _tpots(sfi)) for key, (dense, sfi) in calls.items()}),
                latency=ratio({key: (_latencies(dense), _latencies(sfi)) for key, (dense, sfi) in calls.items()}),
            )
        )
    return [bin for bin in found if bin.latency]


def _tpots(calls: Sequence[Call]) -> list[float]:
    return [value for value in map(tpot, calls) if value is not None]


def _latencies(calls: Sequence[Call]) -> list[float]:
    return [call.seconds for call in calls]


def tpot(call: Call) -> float | None:
    """Seconds per output token after the first; None for a call of one token."""
    return call.decode_seconds / (call.output_tokens - 1) if call.output_tokens > 1 and call.arrivals else None
