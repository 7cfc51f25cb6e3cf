"""What a result file says: every number that the report shows, as one JSON object."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from pydantic import Field

from sfi_sglang.client.call import Record
from sfi_sglang.report.modes import Mode
from sfi_sglang.trajectory.cells import Cell, Slo, summarise_cell
from sfi_sglang.trajectory.compare import Comparison, compare, with_dense
from sfi_sglang.trajectory.contexts import ContextBin, contexts
from sfi_sglang.trajectory.idle import IdleTrajectory, idle, idle_trajectories
from sfi_sglang.trajectory.pairing import Pairing, complete, complete_pairs, pairing
from sfi_sglang.trajectory.records import Header, Results, Run


class SpeedUp(Pairing):
    """Dense over SFI at one load. idle: pairs in which SFI never acted."""

    load: float
    idle: int


class Failure(Record):
    mode: Mode
    load: float
    repeat: int
    trajectory: str
    turn: int | None
    error: str


class Summary(Record):
    """borrowed: loads at which the dense runs are the other file's."""

    header: Header
    slo: Slo
    cells: list[Cell]
    speed_up: list[SpeedUp]
    contexts: list[ContextBin]
    idle: list[IdleTrajectory]
    failures: list[Failure]
    comparison: Comparison | None
    borrowed: list[float] = Field(default_factory=list)


def summarise(results: Results, slo: Slo | None = None, other: Results | None = None) -> Summary:
    """`other`: a second file to compare with, as the baseline. Its dense runs stand in where this one has none.

    Raises:
        ValueError: the two files are not of one kind of run, see `compare`.
    """
    slo = slo or Slo()
    comparison = compare(results, other) if other else None
    own = by_cell(results.runs)
    results = with_dense(results, other)
    cells = by_cell(results.runs)
    loads = sorted({load for _, load in cells})
    return Summary(
        header=results.header,
        slo=slo,
        cells=[summarise_cell(runs, slo, results.header.history == "live") for runs in cells.values()],
        speed_up=[
            _speed_up(load, cells["dense", load], cells["sfi", load])
            for load in loads
            if ("dense", load) in cells and ("sfi", load) in cells
        ],
        contexts=[
            bin
            for load in loads
            for bin in contexts(load, cells.get(("dense", load), []), cells.get(("sfi", load), []))
        ],
        idle=[found for load in loads for found in idle_trajectories(load, cells.get(("sfi", load), []))],
        failures=[_failure(run) for run in results.runs if not complete(run)],
        comparison=comparison,
        borrowed=sorted(load for mode, load in cells.keys() - own.keys()),
    )


def by_cell(runs: Sequence[Run]) -> dict[tuple[Mode, float], list[Run]]:
    """By load, dense first."""
    cells: dict[tuple[Mode, float], list[Run]] = defaultdict(list)
    for run in sorted(runs, key=lambda run: (run.load, run.mode)):
        cells[run.mode, run.load].append(run)
    return dict(cells)


def _speed_up(load: float, dense: Sequence[Run], sfi: Sequence[Run]) -> SpeedUp:
    never = sum(idle(other.calls) for _, other in complete_pairs(dense, sfi))
    return SpeedUp(load=load, idle=never, **dict(pairing(dense, sfi)))


def _failure(run: Run) -> Failure:
    call = next((call for call in run.calls if call.error is not None), None)
    error = run.error or (call.error if call else None) or "no call was made"
    where: dict[str, Any] = run.model_dump(include={"mode", "load", "repeat", "trajectory"})
    return Failure(**where, turn=call.turn if call else None, error=error)
