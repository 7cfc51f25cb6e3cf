"""The host's decision for one forward pass: which rows are dense, fast or slow."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from http import HTTPStatus
from typing import Any

from sfi_sglang.api.options import EXTEND_TAIL
from sfi_sglang.scheduling.drafting import MOST_DRAFTS
from sfi_sglang.scheduling.pass_room import PassRoom
from sfi_sglang.scheduling.request_state import RequestState, requested, state_of
from sfi_sglang.scheduling.segments import Vocabulary
from sfi_sglang.selection.snapshot_store import SnapshotStore


class Step(Enum):
    DENSE = "dense"  # full attention, nothing recorded
    FAST = "fast"  # attention to the visible tokens only
    SLOW = "slow"  # full attention; its evidence refreshes the selection
    CHUNK = "chunk"  # prompt chunk with more to come: keep its last queries


@dataclass(frozen=True)
class RowPlan:
    step: Step
    length: int  # context tokens after this pass
    state: RequestState | None = None
    req_pool_index: int = -1  # of a prompt, its line of SGLang's req_to_token
    repair: "Repair | None" = None  # of a row that attends to everything
    sparse: int = 0  # of a prompt, its first new tokens that see a part of the prefix; the others are dense
    settled: int = 0  # `exact`: those of `length` that stay even if every draft is rejected; else 0
    pending: int = 0  # `exact`: drafts of fast steps when the pass begins
    copied: bool = False  # `exact`: does it verify drafts that were found in the context?

    @property
    def drafts(self) -> bool:
        """Is what it gives only a draft?"""
        return self.settled > 0 and self.step is Step.FAST

    @property
    def unsettled(self) -> int:
        """Drafts in its context."""
        return self.length - self.settled if self.settled else 0

    @property
    def verifies(self) -> int:
        """Drafts."""
        return len(self.repair.tokens) if self.repair is not None and self.settled else 0


@dataclass(frozen=True)
class Repair:
    """Tokens whose K and V a row computes anew in its own pass, now that it attends to everything anyway.

    start: first position; the tokens before it are exact. tokens: ids at the positions from there on. following: id
    after each of them, for all but the last if that is the row's input token. ON_DEVICE: only the device knows.
    """

    start: int
    tokens: tuple[int, ...]
    following: tuple[int, ...]

    @property
    def positions(self) -> range:
        return range(self.start, self.start + len(self.tokens))


ON_DEVICE = -1  # in place of a token's id
DENSE_ROW = RowPlan(Step.DENSE, 0)


def repairs_of(rows: Sequence[RowPlan]) -> list[tuple[int, RowPlan, Repair]]:
    """The rows that repair: index, plan and what. Behind the rows of the requests, theirs follow in this order."""
    return [(i, row, row.repair) for i, row in enumerate(rows) if row.repair is not None]


class StepPlanner:
    """Plans every batch of one scheduler. Tensor-parallel ranks see the same requests and so decide alike."""

    def __init__(self, store: SnapshotStore) -> None:
        self.store = store
        self.vocabulary: Vocabulary | None = None
        self.evidence_tokens: int | None = None  # candidates that one decode step has room for; None: any number
        self.pass_rows: int | None = None  # rows that one decode pass has room for; None: any number
        self.repairs = True  # can tokens be computed anew?
        self.refusal: str | None = None  # why this scheduler can serve no SFI request
        self.rids: list[str] = []
        self.rows: list[RowPlan] = []

    @property
    def sparse(self) -> bool:
        """Does the pass at hand have a row that needs our kernels?"""
        return any(row.step in (Step.FAST, Step.SLOW) or row.repair is not None for row in self.rows)

    def read_vocabulary(self, tokenizer: Any) -> None:
        """Decode the vocabulary once, at the server's start. With a tokenizer that cannot, SFI requests are refused."""
        try:
            self.vocabulary = Vocabulary.of(tokenizer)
        except Exception as error:
            self.vocabulary = Vocabulary([])
            self.refusal = f"the tokenizer cannot decode its vocabulary: {error!r}"

    def plan(self, batch: Any, lengths: Sequence[int]) -> None:
        """Plan a ScheduleBatch (sglang/srt/managers/schedule_batch.py) about to be launched. lengths: of the contexts
        after it, drafts left out."""
        assert self.vocabulary is not None
        decode = batch.forward_mode.is_decode()
        widened = self.repairs and all(req.lora_id is None for req in batch.reqs)
        spare = 0 if not widened else self.pass_rows and self.pass_rows - len(batch.reqs)
        room = PassRoom(self.evidence_tokens, spare)
        self.rids = [req.rid for req in batch.reqs]
        self.rows = [DENSE_ROW] * len(batch.reqs)
        if self.refusal is not None:
            self.abort(batch, f"sfi: not available on this server: {self.refusal}")
            return
        exact: list[tuple[int, RequestState, int]] = []  # row, state, tokens that its reply may still get
        for i, req in enumerate(batch.reqs):
            state = state_of(req, self.vocabulary)
            if state is None:
                continue
            if state.failure is not None:
                abort(req, state.failure)
            if decode and state.options.exact:
                left = req.sampling_params.max_new_tokens - (lengths[i] - state.prompt_tokens)
                exact.append((i, state, left))
            elif decode:
                self.rows[i] = plan_decode(state, req.output_ids, lengths[i], room)
            elif batch.forward_mode.is_extend():
                total = len(req.origin_input_ids) + len(req.output_ids)
                start = batch.prefix_lens[i]
                row = plan_extend(state, start, start + batch.extend_lens[i], total)
                self.rows[i] = replace(row, req_pool_index=req.kv.req_pool_idx)
                if row.step is Step.SLOW and state.selection is None and state.options.carry != "fresh":
                    state.inherit(req, self.store)
        together = any(is_due(state, left, room) for _, state, left in exact)
        for i, state, left in sorted(exact, key=lambda each: -each[1].drafting.unrefreshed):
            self.rows[i] = plan_exact(state, lengths[i], room, left, together)

    def abort(self, batch: Any, message: str) -> None:
        """Give up the SFI requests of a batch that could not be planned; its rows run dense until they end."""
        self.rids, self.rows = [], []
        for req in batch.reqs:
            if requested(req):
                abort(req, message)
                if (state := getattr(req, "sfi", None)) is not None:
                    state.drafting.restart()

    def drop_repairs(self) -> None:
        """The pass cannot take more rows than it has requests."""
        self.rows = [replace(row, repair=None) if row.repair else row for row in self.rows]

    def rows_for(self, rids: list[str] | None, batch_size: int) -> list[RowPlan]:
        """The plan if it was made for this very batch, else all dense (warm-up and idle passes). Rows beyond the
        requests and what they repair are dense too: beams."""
        if rids != self.rids:
            return [DENSE_ROW] * batch_size
        beams = batch_size - len(self.rows) - sum(len(repair.tokens) for *_, repair in repairs_of(self.rows))
        return self.rows + [DENSE_ROW] * beams


def abort(req: Any, message: str) -> None:
    """End a request with an error."""
    from sglang.srt.managers.schedule_batch import FINISH_ABORT

    req.to_finish = FINISH_ABORT(message, HTTPStatus.INTERNAL_SERVER_ERROR, "InternalServerError")


def plan_decode(state: RequestState, outputs: Sequence[int], length: int, room: PassRoom) -> RowPlan:
    """One decode step of a request whose context, input token included, is `length` tokens."""
    options, step, repair = state.options, Step.DENSE, None
    slow = state.tracker.step(outputs, length - 1 - state.prompt_tokens, state.drifted(length))
    if options.policy == "never" and length > options.dense_limit:
        step = Step.FAST
    elif length > options.dense_limit:
        count = room.take(state, length) if slow or state.selection is None else None
        if count is not None:
            step, repair = Step.SLOW, plan_repair(state, outputs, length, count)
            state.tracker.refreshed()
        elif state.selection is not None:
            step = Step.FAST
    state.steps.append(step is not Step.FAST)
    if step is not Step.FAST and state.exact == length - 1:
        state.exact = length
    return RowPlan(step, length, state, repair=repair)


def is_due(state: RequestState, left: int, room: PassRoom) -> bool:
    """Does an `exact` request have drafts enough to verify, or copies on offer? left: tokens that it may still get."""
    drafting = state.drafting
    copies = not drafting.pending and min(drafting.offer, left - 1) > 0
    return copies or 0 < drafting.pending >= min(drafting.length(), longest_draft(left, room))


def longest_draft(left: int, room: PassRoom) -> float:
    """Tokens of one verification, which gives one more."""
    return min(MOST_DRAFTS, left - 1, room.spare)


def plan_exact(state: RequestState, settled: int, room: PassRoom, left: int, together: bool = False) -> RowPlan:
    """One decode step of a request that shall answer as a dense one. settled: its tokens that stay, the one after the
    last verification included. left: tokens that it may still get. A fast step drafts; a step that attends to all
    verifies what was drafted, or at once what was found in the context. together: others verify in this pass, which is
    a slow one anyway, so half of a draft is enough."""
    options, drafting = state.options, state.drafting
    pending, offer, drafting.offer, drafting.verifying = drafting.pending, drafting.offer, 0, False
    longest = longest_draft(left, room)
    selects = settled > options.dense_limit and options.policy != "never"
    can_draft = settled > options.dense_limit and (state.selection is not None or not selects)
    copies = 0 if pending else room.take_rows(max(int(min(offer, longest)), 0)) or 0
    enough = drafting.length()
    wait = can_draft and not copies and pending < min(-(-enough // 2) if together else enough, longest)
    count = copies or (None if wait else room.take_rows(pending, whole=pending < longest))
    if count is None:
        drafting.pending += 1
        state.steps.append(False)
        return RowPlan(Step.FAST, settled + pending, state, settled=settled, pending=pending)
    drafting.pending, drafting.verifying = 0, count > 0
    state.steps.append(True)
    step = Step.SLOW if selects and room.take_evidence(state, settled) else Step.DENSE
    drafting.unrefreshed = 0 if step is Step.SLOW else drafting.unrefreshed + 1
    repair = Repair(settled - 1, (ON_DEVICE,) * count, (ON_DEVICE,) * count) if count else None
    return RowPlan(step, settled + count, state, repair=repair, settled=settled, pending=pending, copied=copies > 0)


def plan_repair(state: RequestState, outputs: Sequence[int], length: int, count: int) -> Repair | None:
    """The `count` oldest tokens whose K and V are approximate; None for none."""
    if not count:
        return None
    start, prompt = state.exact, state.prompt_tokens
    known = outputs[start - prompt : length - 1 - prompt]  # the input token is on the device alone
    return Repair(start, tuple(known[:count]), tuple(known[1 : count + 1]))


def plan_extend(state: RequestState, start: int, end: int, total: int) -> RowPlan:
    """One prefill pass from token `start` to token `end` of `total`. The last one makes the first selection. What
    sparse extend leaves counts as exact: the request's namespace has nothing better."""
    options, state.exact = state.options, end
    if not options.selects_at(total):
        return RowPlan(Step.DENSE, end, state)
    if state.cached is None:
        state.cached, state.sparse_tokens = start, 0
    sparse = max(min(end, total - EXTEND_TAIL) - start, 0) if options.extends_sparsely(state.cached) else 0
    state.sparse_tokens += sparse
    if end < total:
        return RowPlan(Step.CHUNK, end, state, sparse=sparse)
    state.tracker.refreshed()
    return RowPlan(Step.SLOW, end, state, sparse=sparse)
