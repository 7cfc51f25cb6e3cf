"""When the `exact` requests of a batch draft, and when a pass with full attention verifies their drafts."""

from collections.abc import Sequence

from sfi_sglang.scheduling.drafting import MOST_DRAFTS
from sfi_sglang.scheduling.pass_room import PassRoom
from sfi_sglang.scheduling.request_state import RequestState
from sfi_sglang.scheduling.row_plan import ON_DEVICE, Repair, RowPlan, Step


def can_draft(state: RequestState, settled: int) -> bool:
    """Has a fast step of an `exact` request with `settled` tokens something to leave out?"""
    options = state.options
    return settled > options.dense_limit and (state.selection is not None or options.policy == "never")


def longest_draft(left: int, room: PassRoom) -> float:
    """Tokens of one verification, which gives one more. left: tokens that the request may still get."""
    return min(MOST_DRAFTS, left - 1, room.share)


def verify_together(drafting: Sequence[tuple[RequestState, int]], room: PassRoom) -> bool:
    """Shall the `exact` requests of a batch that draft, each with the tokens that it may still get, verify in this
    pass? Each such pass makes all wait for the host, which has to read what was accepted. So it comes when half of them
    have drafted enough, or one can draft no more."""
    begun = [(state.drafting, longest_draft(left, room)) for state, left in drafting if state.drafting.pending]
    full = any(draft.pending >= longest for draft, longest in begun)
    return full or 0 < len(drafting) <= 2 * sum(draft.pending >= draft.length() for draft, _ in begun)


def draft(state: RequestState, settled: int) -> RowPlan:
    """A fast step drafts."""
    pending, state.drafting.pending = state.drafting.pending, state.drafting.pending + 1
    state.steps.append(False)
    return RowPlan(Step.FAST, settled + pending, state, settled=settled, pending=pending)


def plan_exact(
    state: RequestState, settled: int, room: PassRoom, left: int, together: bool = False, blind: bool = False
) -> RowPlan:
    """One decode step of a request that shall answer as a dense one. settled: its tokens that stay, the one after the
    last verification included. left: tokens that it may still get. A fast step drafts; a step that attends to all
    verifies what was drafted, or at once what was found in the context, in place of the draft of a blind pass.
    together: the batch verifies in this pass, so half of a draft is enough; else it takes two. blind: `settled` is the
    most that it may be, and the request drafts."""
    options, drafting = state.options, state.drafting
    pending, offer, read = drafting.pending, drafting.offer, not drafting.blind
    drafting.blind, drafting.offer, drafting.verifying = blind and drafting.verifying, 0, False
    if blind and can_draft(state, settled):
        return draft(state, settled)
    longest = longest_draft(left, room)
    copies = 0 if pending and read else room.take_rows(max(int(min(offer, longest)), 0)) or 0
    enough = drafting.length()
    wanted = min(-(-enough // 2) if together else 2 * enough, longest)
    wait = can_draft(state, settled) and not copies and pending < wanted
    count = copies or (None if wait else room.take_rows(pending, whole=pending < longest))
    if count is None:
        return draft(state, settled)
    drafting.pending, drafting.verifying = 0, count > 0
    state.steps.append(True)
    selects = settled > options.dense_limit and options.policy != "never"
    step = Step.SLOW if selects and room.take_evidence(state, settled) else Step.DENSE
    drafting.unrefreshed = 0 if step is Step.SLOW else drafting.unrefreshed + 1
    repair = Repair(settled - 1, (ON_DEVICE,) * count, (ON_DEVICE,) * count) if count else None
    return RowPlan(step, settled + count, state, repair=repair, settled=settled, pending=pending, copied=copies > 0)
