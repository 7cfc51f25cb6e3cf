"""One cell of the experiment in numbers: a mode at a load, over its trajectories and their calls."""

from collections import defaultdict
from collections.abc import Sequence
from itertools import chain
from statistics import mean

from pydantic import Field

from sfi_sglang.client.call import Call, Record
from sfi_sglang.report.modes import Mode
from sfi_sglang.trajectory.contexts import tpot
from sfi_sglang.trajectory.first_tokens import FirstTokens, first_tokens
from sfi_sglang.trajectory.idle import idle
from sfi_sglang.trajectory.pairing import complete
from sfi_sglang.trajectory.records import Run, covered
from sfi_sglang.trajectory.stats import Distribution, Interval, Proportion, describe, mean_interval, proportion


class Slo(Record):
    """What every call of a good trajectory keeps: seconds to the first token, seconds per output token after it."""

    ttft: float = Field(default=2.0, gt=0)
    tpot: float = Field(default=0.05, gt=0)


class Parts(Record):
    """Mean seconds of a trajectory, by what it waited for. The first token: queue and prefill, one for a client."""

    first_token: float
    decode: float
    other: float
    tool: float


class Cell(Record):
    """One mode at one load. Latencies and tokens are those of the complete trajectories; `wall` is that of all.

    time: of trajectories, without tool waits. parts, decode_share: None if none is complete.
    cached_tokens, inherited_tokens, slow_step_ratio, idle_calls, coverage: None if the server does not report them.
    idle_calls: those in which SFI never acted.
    coverage: mean over calls of the attention mass that the memory would have caught at their slow steps.
    cold, cached: first tokens of calls whose prompt was in the prefix cache by less than half, and of the others.
    goodput: trajectories per minute that kept the SLO in all calls. success: live history only; a failed one has none.
    """

    mode: Mode
    load: float
    runs: int
    failed: int
    time: Distribution
    time_interval: Interval | None
    tool: Distribution
    ttft: Distribution
    cold: FirstTokens | None
    cached: FirstTokens | None
    itl: Distribution
    tpot: Distribution
    parts: Parts | None
    decode_share: float | None
    calls: int
    prompt_tokens: int
    output_tokens: int
    cached_tokens: int | None
    inherited_tokens: int | None
    slow_step_ratio: float | None
    idle_calls: int | None
    coverage: float | None
    wall: float
    output_tokens_per_second: float | None
    requests_per_second: float | None
    goodput: float | None
    success: Proportion | None


def summarise_cell(runs: Sequence[Run], slo: Slo, live: bool) -> Cell:
    done = [run for run in runs if complete(run)]
    calls = [call for run in done for call in run.calls]
    times: dict[str, list[float]] = defaultdict(list)
    for run in done:
        times[run.trajectory].append(run.seconds)
    parts = _parts(done) if done else None
    output = sum(call.output_tokens for call in calls)
    wall = _wall(runs)
    slow, fast = (sum(_reported(calls, name)) for name in ("slow_steps", "fast_steps"))
    inherited, coverages = _reported(calls, "inherited_tokens"), _reported(calls, "coverage")
    cached = [call.cached_tokens for call in calls if call.cached_tokens is not None]
    return Cell(
        mode=runs[0].mode,
        load=runs[0].load,
        runs=len(runs),
        failed=len(runs) - len(done),
        time=describe([run.seconds for run in done]),
        time_interval=mean_interval(times),
        tool=describe([run.tool_seconds for run in done]),
        ttft=describe([call.ttft for call in calls if call.ttft is not None]),
        cold=first_tokens(calls, cached=False),
        cached=first_tokens(calls, cached=True),
        itl=describe(list(chain.from_iterable(call.itl for call in calls))),
        tpot=describe([value for value in map(tpot, calls) if value is not None]),
        parts=parts,
        decode_share=parts.decode / (parts.first_token + parts.decode + parts.other) if parts else None,
        calls=len(calls),
        prompt_tokens=sum(call.prompt_tokens for call in calls),
        output_tokens=output,
        cached_tokens=sum(cached) if cached else None,
        inherited_tokens=int(sum(inherited)) if inherited else None,
        slow_step_ratio=slow / (slow + fast) if slow + fast else None,
        idle_calls=sum(idle([call]) for call in calls) if any(call.sfi for call in calls) else None,
        coverage=mean(coverages) if coverages else None,
        wall=wall,
        output_tokens_per_second=output / wall if wall else None,
        requests_per_second=len(calls) / wall if wall else None,
        goodput=60 * sum(keeps(run, slo) for run in runs) / wall if wall else None,
        success=proportion([complete(run) and bool(run.success) for run in runs]) if live else None,
    )


def keeps(run: Run, slo: Slo) -> bool:
    """Whether the run is complete and all its calls keep the SLO. A call without text has no TTFT, so it does not."""
    return complete(run) and all(
        call.ttft is not None and call.ttft <= slo.ttft and (tpot(call) or 0.0) <= slo.tpot for call in run.calls
    )


def _wall(runs: Sequence[Run]) -> float:
    """Seconds from the first start to the last end; every repeat has a clock of its own."""
    spans: dict[int, list[Run]] = defaultdict(list)
    for run in runs:
        spans[run.repeat].append(run)
    return sum(max(run.end for run in span) - min(run.start for run in span) for span in spans.values())


def _parts(runs: Sequence[Run]) -> Parts:
    """Of the wall time: what parallel branches do at once counts once, decoding before waiting."""
    decode = first = 0.0
    for run in runs:
        decoding = [
            (call.start + call.arrivals[0], call.start + call.arrivals[-1]) for call in run.calls if call.arrivals
        ]  # fmt: skip
        waiting = [(call.start, call.start + (call.ttft or 0.0)) for call in run.calls]
        decode += covered(decoding)
        first += covered([*waiting, *decoding]) - covered(decoding)
    n, tool = len(runs), sum(run.tool_seconds for run in runs)
    rest = sum(run.seconds for run in runs) - first - decode
    return Parts(first_token=first / n, decode=decode / n, other=max(0.0, rest) / n, tool=tool / n)


def _reported(calls: Sequence[Call], field: str) -> list[float]:
    """A number of the server's SFI reports, from the calls that have it."""
    return [call.sfi[field] for call in calls if call.sfi and call.sfi.get(field) is not None]
