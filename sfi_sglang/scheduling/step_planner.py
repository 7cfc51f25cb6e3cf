"""The host's decision for one forward pass: which rows are dense, fast or slow."""

from collections.abc import Sequence
from dataclasses import replace
from http import HTTPStatus
from typing import Any

from sfi_sglang.api.options import EXTEND_TAIL
from sfi_sglang.scheduling.exact_steps import can_draft, plan_exact, verify_together
from sfi_sglang.scheduling.pass_room import PassRoom
from sfi_sglang.scheduling.request_state import RequestState, requested, state_of
from sfi_sglang.scheduling.row_plan import DENSE_ROW, Repair, RowPlan, Step, repairs_of
from sfi_sglang.scheduling.segments import Vocabulary
from sfi_sglang.selection.snapshot_store import SnapshotStore


class StepPlanner:
    """Plans every batch of one scheduler. Tensor-parallel ranks see the same requests and so decide alike."""

    def __init__(self, store: SnapshotStore) -> None:
        self.store = store
        self.vocabulary: Vocabulary | None = None
        self.evidence_tokens: int | None = None  # candidates that one decode step has room for; None: any number
        self.pass_rows: int | None = None  # rows that one decode pass has room for; None: any number
        self.repairs = True  # can tokens be computed anew?
        self.blind_passes = True  # can a pass run while the device alone knows the lengths?
        self.blind = False  # does the pass at hand?
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

    def plan(self, batch: Any, lengths: Sequence[int], blind: bool = False) -> None:
        """Plan a ScheduleBatch (sglang/srt/managers/schedule_batch.py) about to be launched. lengths: of the contexts
        after it, drafts left out; blind: where a pass has just verified, at most."""
        assert self.vocabulary is not None
        self.blind = blind
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
        drafting = [(state, left) for i, state, left in exact if can_draft(state, lengths[i])]
        room.share_out(len(drafting))
        together = verify_together(drafting, room)
        for i, state, left in sorted(exact, key=lambda each: -each[1].drafting.unrefreshed):
            self.rows[i] = plan_exact(state, lengths[i], room, left, together, blind)

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
