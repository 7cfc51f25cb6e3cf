"""`exact` requests of one batch: they come to verify in the same passes, and take turns at selecting anew."""

from types import SimpleNamespace

from sfi_sglang.api.options import EVIDENCE_PAGE
from sfi_sglang.scheduling.drafting import Drafting
from sfi_sglang.scheduling.pass_room import PassRoom
from sfi_sglang.scheduling.request_state import RequestState
from sfi_sglang.scheduling.segments import Vocabulary
from sfi_sglang.scheduling.step_planner import RowPlan, Step, StepPlanner, is_due, plan_exact
from sfi_sglang.selection.snapshot_store import SnapshotStore
from tests.unit.test_drafts import PROMPT, state, steps


def test_half_a_draft_is_verified_where_others_are():
    length = Drafting().length()
    for drafted in range(1, length):
        request, room = state(), PassRoom(None)
        rows = steps(request, drafted)
        assert all(row.drafts for row in rows) and not is_due(request, 1000, room)
        joined = plan_exact(request, PROMPT + 1, room, 1000, together=True)
        assert joined.verifies == (drafted if 2 * drafted >= length else 0)


def test_a_draft_is_due_when_it_is_long_enough_and_copies_are_at_once():
    request, room = state(), PassRoom(None)
    steps(request, Drafting().length())
    assert is_due(request, 1000, room)
    other = state()
    assert not is_due(other, 1000, room)
    other.drafting.offer = 4
    assert is_due(other, 1000, room) and not is_due(other, 1, room)


def planned(settled: dict[int, int], requests: list[RequestState], evidence_tokens: int | None = None) -> list[RowPlan]:
    """One pass of a batch, all of whose drafts are accepted. settled: tokens of each request by its id, kept here."""
    planner = StepPlanner(SnapshotStore(0))
    planner.vocabulary, planner.evidence_tokens = Vocabulary([]), evidence_tokens
    lengths = [settled.setdefault(id(request), PROMPT + 1) for request in requests]
    params = SimpleNamespace(max_new_tokens=1000, custom_params={"sfi": {"exact": True}})
    reqs = [
        SimpleNamespace(rid=f"{i}", sfi=each, sampling_params=params, lora_id=None) for i, each in enumerate(requests)
    ]
    mode = SimpleNamespace(is_decode=lambda: True, is_extend=lambda: False)
    planner.plan(SimpleNamespace(reqs=reqs, forward_mode=mode), lengths)
    for request, row in zip(requests, planner.rows, strict=True):
        settled[id(request)] += 0 if row.drafts else row.verifies + 1
    return planner.rows


def test_requests_come_to_verify_together():
    """Also those that began half a draft later."""
    early, late, settled = state(), state(), dict[int, int]()
    for _ in range(Drafting().length() // 2):
        planned(settled, [early])
    passes = [[row.verifies > 0 for row in planned(settled, [early, late])] for _ in range(40)]
    assert sum(map(any, passes)) >= 4 and all(one == other for one, other in passes)


def test_selections_take_turns_where_there_is_room_for_one():
    requests, settled = [state() for _ in range(3)], dict[int, int]()
    passes = [planned(settled, requests, evidence_tokens=EVIDENCE_PAGE) for _ in range(60)]
    slow = [[row.step for row in rows].index(Step.SLOW) for rows in passes if rows[0].verifies]
    assert len(slow) > 4 and slow == [i % 3 for i in range(len(slow))]
