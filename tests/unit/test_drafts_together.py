"""`exact` requests of one batch: they come to verify in the same passes, and take turns at selecting anew."""

from types import SimpleNamespace

import pytest

from sfi_sglang.api.options import EVIDENCE_PAGE
from sfi_sglang.scheduling.drafting import Drafting
from sfi_sglang.scheduling.exact_steps import plan_exact, verify_together
from sfi_sglang.scheduling.pass_room import PassRoom
from sfi_sglang.scheduling.request_state import RequestState
from sfi_sglang.scheduling.row_plan import RowPlan, Step
from sfi_sglang.scheduling.segments import Vocabulary
from sfi_sglang.scheduling.step_planner import StepPlanner
from sfi_sglang.selection.snapshot_store import SnapshotStore
from tests.unit.test_drafts import PROMPT, state

LENGTH = Drafting().length()


def drafted(tokens: int, room: PassRoom) -> RequestState:
    """A request that has drafted so much, alone and beside others that verify nothing."""
    request = state()
    for _ in range(tokens):
        assert plan_exact(request, PROMPT + 1, room, 1000).drafts
    return request


@pytest.mark.parametrize("tokens", range(1, 2 * LENGTH))
def test_half_a_draft_is_enough_where_others_verify_and_else_it_takes_two(tokens):
    room = PassRoom(None)
    joined = plan_exact(drafted(tokens, room), PROMPT + 1, room, 1000, together=True)
    assert joined.verifies == (tokens if 2 * tokens >= LENGTH else 0)
    alone = plan_exact(drafted(2 * LENGTH, room), PROMPT + 1, room, 1000)
    assert alone.verifies == 2 * LENGTH


@pytest.mark.parametrize("ready, others, together", [(1, 0, True), (1, 1, True), (1, 2, False), (2, 2, True)])
def test_a_batch_verifies_when_half_of_it_has_drafted_enough(ready, others, together):
    room = PassRoom(None)
    batch = [drafted(LENGTH, room) for _ in range(ready)] + [drafted(LENGTH - 1, room) for _ in range(others)]
    assert verify_together([(request, 1000) for request in batch], room) == together


def test_a_batch_verifies_when_one_can_draft_no_more():
    room = PassRoom(None, spare_rows=2)
    full, fresh = drafted(2, room), [state() for _ in range(5)]
    assert verify_together([(request, 1000) for request in (full, *fresh)], room)
    assert verify_together([(drafted(2, room), 3), *((request, 1000) for request in fresh)], PassRoom(None))
    assert not verify_together([(request, 1) for request in fresh], room), "nothing is drafted"
    assert not verify_together([], room)


def planned(settled: dict[int, int], requests: list[RequestState], **limits: int) -> list[RowPlan]:
    """One pass of a batch, all of whose drafts are accepted. settled: tokens of each request by its id, kept here.
    limits: of the planner."""
    planner = StepPlanner(SnapshotStore(0))
    planner.vocabulary, planner.evidence_tokens = Vocabulary([]), limits.get("evidence_tokens")
    planner.pass_rows = limits.get("pass_rows")
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
    for _ in range(LENGTH // 2):
        planned(settled, [early])
    passes = [[row.verifies > 0 for row in planned(settled, [early, late])] for _ in range(40)]
    assert sum(map(any, passes)) >= 4 and all(one == other for one, other in passes)


def test_selections_take_turns_where_there_is_room_for_one():
    requests, settled = [state() for _ in range(3)], dict[int, int]()
    passes = [planned(settled, requests, evidence_tokens=EVIDENCE_PAGE) for _ in range(60)]
    slow = [[row.step for row in rows].index(Step.SLOW) for rows in passes if rows[0].verifies]
    assert len(slow) > 4 and slow == [i % 3 for i in range(len(slow))]


@pytest.mark.parametrize("spare, most", [(20, 5), (7, 1), (3, 1)])
def test_drafts_are_as_long_as_all_can_be_verified_together(spare, most):
    requests, settled = [state() for _ in range(4)], dict[int, int]()
    passes = [planned(settled, requests, pass_rows=4 + spare) for _ in range(80)]
    verified = [[row.verifies for row in rows] for rows in passes if any(row.verifies for row in rows)]
    assert max(map(max, verified)) == most
    assert len(verified) > 4 and all(sum(map(bool, counts)) == min(4, spare) for counts in verified)
