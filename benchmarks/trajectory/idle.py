"""Where SFI never acted: a call whose decode steps were all slow ran densely, so its time says nothing about SFI."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from sfi_sglang.client.call import Call, Record
from sfi_sglang.trajectory.records import Run


class IdleTrajectory(Record):
    """One in which SFI took no fast step in any repeat. slow_steps: of all repeats; longest: context in tokens."""

    load: float
    trajectory: str
    runs: int
    slow_steps: int
    longest: int


def idle(calls: Iterable[Call]) -> bool:
    """Whether the server reports slow steps of these calls, and no fast one."""
    reports = [call.sfi for call in calls if call.sfi]
    slow, fast = (sum(report.get(name) or 0 for report in reports) for name in ("slow_steps", "fast_steps"))
    return slow > 0 and fast == 0


def idle_trajectories(load: float, runs: Sequence[Run]) -> list[IdleTrajectory]:
    """runs: of one cell, SFI's."""
    calls: dict[str, list[Call]] = defaultdict(list)
    for run in runs:
        calls[run.trajectory] += run.calls
    return [
        IdleTrajectory(
            load=load,
            trajectory=name,
            runs=sum(run.trajectory == name for run in runs),
            slow_steps=sum(call.sfi.get("slow_steps") or 0 for call in found if call.sfi),
            longest=max(call.prompt_tokens + call.output_tokens for call in found),
        )
        for name, found in calls.items()
        if idle(found)
    ]
