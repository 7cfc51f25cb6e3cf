"""Which graph a pass of the Triton executor takes."""

from types import SimpleNamespace

from sfi_sglang.api.options import SFIOptions
from sfi_sglang.attention.triton_backend import DENSE, FAST, MIXED, WIDE, SFITritonBackend
from sfi_sglang.scheduling.request_state import RequestState
from sfi_sglang.scheduling.row_plan import DENSE_ROW, Repair, RowPlan, Step
from sfi_sglang.scheduling.segments import SegmentTracker, Vocabulary
from sfi_sglang.scheduling.step_planner import StepPlanner
from sfi_sglang.selection.snapshot_store import SnapshotStore

STATE = RequestState(SFIOptions(), 1, SegmentTracker(SFIOptions(), Vocabulary([])))
FAST_ROW, SLOW_ROW = (RowPlan(step, 9, STATE) for step in (Step.FAST, Step.SLOW))
REPAIR = Repair(5, (1, 2), (2, 3))


def graph_of(*rows: RowPlan) -> str:
    backend = object.__new__(SFITritonBackend)
    backend.planner = StepPlanner(SnapshotStore(0))
    backend.attention = {FAST: SimpleNamespace(fits=lambda tokens: True)}
    backend.planner.rids, backend.planner.rows = ["r"] * len(rows), list(rows)
    return backend.select(SimpleNamespace(rids=["r"] * len(rows), batch_size=len(rows)))


def test_each_kind_of_pass_has_a_graph():
    assert graph_of(DENSE_ROW, DENSE_ROW) == DENSE
    assert graph_of(FAST_ROW, FAST_ROW) == FAST
    for other in (DENSE_ROW, SLOW_ROW):
        assert graph_of(FAST_ROW, other) == MIXED
    for step in (Step.SLOW, Step.DENSE):
        assert graph_of(FAST_ROW, RowPlan(step, 9, STATE, repair=REPAIR)) == WIDE
