"""The worker of `--speculative-algorithm SFI`: one plain pass of the model at a time, of which a request gets a token,
a draft, or as many tokens as full attention has verified."""

import copy
from collections import deque
from collections.abc import Callable
from typing import Any

import torch
from sglang.srt.speculative.base_spec_worker import BaseSpecWorker
from sglang.srt.speculative.spec_info import SpeculativeAlgorithm
from torch import Tensor

from sfi_sglang.api.exact import ALGORITHM
from sfi_sglang.attention import model_support
from sfi_sglang.attention.transfer import to_device
from sfi_sglang.integration import logprobs
from sfi_sglang.integration.choices import Choices
from sfi_sglang.integration.draft_tokens import Verdict, judge
from sfi_sglang.integration.passes import Passes
from sfi_sglang.integration.speculation import LastTokens
from sfi_sglang.scheduling.row_plan import RowPlan
from sfi_sglang.scheduling.step_planner import abort

Publish = Callable[[Tensor], None]


class ExactWorker(BaseSpecWorker):
    """What it leaves out is the target worker's. launched: the rows of the decode passes whose results the scheduler
    has not read."""

    needs_cpu_seq_lens = True  # the plan does

    def __init__(self, passes: Passes, server_args: Any, gpu_id: int, nccl_port: int, target_worker: Any) -> None:
        super().__init__()
        self._target_worker, self._draft_worker = target_worker, None
        self.passes, self.model_runner, self.device = passes, target_worker.model_runner, target_worker.device
        self.launched: deque[list[RowPlan]] = deque()

    def __getattr__(self, name: str) -> Any:
        if name == "_target_worker":  # not set yet
            raise AttributeError(name)
        return getattr(self._target_worker, name)

    @property
    def spec_v2_attn_backends(self) -> tuple[Any, ...]:
        return (self,)

    def alloc_memory_pool(
        self, memory_pool_config: Any = None, req_to_token_pool: Any = None, token_to_kv_pool_allocator: Any = None
    ) -> None:
        """
        Raises:
            RuntimeError: drafts of this model cannot be verified, or their slots not be set aside one by one.
        """
        super().alloc_memory_pool(memory_pool_config, req_to_token_pool, token_to_kv_pool_allocator)
        if not model_support.repairs(self.model_runner):
            raise RuntimeError(f"--speculative-algorithm {ALGORITHM}: not with windows, states or M-RoPE as yet")
        if token_to_kv_pool_allocator.page_size > 1:
            raise RuntimeError(f"--speculative-algorithm {ALGORITHM}: not with --page-size above 1 as yet")
        self.lines = req_to_token_pool.req_to_token
        self.passes.drafts.allocate(self.lines.shape[0], self.device)

    def forward_batch_generation(self, batch: Any, on_publish: Publish | None = None, **kwargs: Any) -> Any:
        """Of a ScheduleBatch, which stays as it is: the target worker gets a copy that knows nothing of drafts."""
        last, batch = batch.spec_info, copy.copy(batch)
        batch.spec_info, batch.spec_algorithm = None, SpeculativeAlgorithm.NONE
        if batch.forward_mode.is_decode():
            return self._decode(batch, last, on_publish or (lambda lengths: None))
        result, choices = self._run(batch, self._rows(batch))
        if choices is not None:
            logprobs.put(result.logits_output, choices)
        return self._finish(result, batch.seq_lens, result.next_token_ids, on_publish)

    def _rows(self, batch: Any) -> list[RowPlan]:
        return self.passes.planner.rows_for([req.rid for req in batch.reqs], len(batch.reqs))

    def _run(self, batch: Any, rows: list[RowPlan]) -> tuple[Any, Choices | None]:
        """A pass in which rows choose by the rules of their requests. Returns its GenerationBatchResult too."""
        self.passes.choices = choices = Choices.of(batch.reqs, rows)
        try:
            if choices is not None:
                choices.read(self.passes.drafts, batch.req_pool_indices)
            result = self.target_worker.forward_batch_generation(batch)
        finally:
            self.passes.choices = None
        if choices is not None:
            result.next_token_ids = choices.own(result.next_token_ids)
        return result, choices

    def _decode(self, batch: Any, last: LastTokens, publish: Publish) -> Any:
        drafts, unread = self.passes.drafts, self.passes.unread
        committed, settled = batch.seq_lens, (batch.seq_lens_cpu + 1).tolist()
        copies = [] if unread.blind else drafts.find_copies(batch, settled, last.bonus_tokens)
        self.passes.plan(batch, settled, unread.blind)
        rows = self._rows(batch)
        columns = [(row.unsettled, row.pending, not row.drafts, row.verifies) for row in rows]
        host = torch.tensor(columns, dtype=torch.int64).T.contiguous()
        ahead, pending, emits, verifies = to_device(host, committed.device)
        batch.seq_lens, batch.seq_lens_cpu = committed + 1 + ahead, torch.tensor(settled) + host[0]
        batch.seq_lens_sum = int(batch.seq_lens_cpu.sum())
        batch.orig_seq_lens = batch.seq_lens.to(torch.int32)
        batch.out_cache_loc = self.lines[batch.req_pool_indices, batch.seq_lens - 1].to(torch.int64)
        batch.input_ids = last.bonus_tokens.to(torch.int64)
        if any(row.settled for row in rows):
            drafts.note(batch.req_pool_indices, committed + pending, batch.input_ids)
            drafts.note_copies(batch.req_pool_indices, copies)
            batch.input_ids = drafts.at(batch.req_pool_indices, batch.seq_lens - 1)
        width = max((row.verifies for row in rows), default=0)
        if not width:
            publish(committed + emits)  # known before the pass
        result, choices = self._run(batch, rows)
        self.launched.append(rows)
        unread.launched(batch.reqs, [length - 1 for length in settled], rows)
        emits = emits.to(torch.int32)
        checked, own = self.passes.checked, result.next_token_ids.long()  # SGLang draws int32, and ranks int64
        if width and checked is None:
            self._give_up(batch, rows)
        if not width or checked is None:
            verdict = Verdict(own[:, None], emits)
        else:
            verdict = judge(own, emits, verifies, width, checked)
        ends = committed + verdict.counts
        if width:
            publish(ends)
        return self._finish(self._in_rows(result, verdict, choices), ends, verdict.last, None)

    @staticmethod
    def _in_rows(result: Any, verdict: Verdict, choices: Choices | None) -> Any:
        """The verdict in a GenerationBatchResult, whose own tokens are one a request."""
        width = verdict.tokens.shape[1]
        result.next_token_ids, result.accept_lens = verdict.tokens.flatten(), verdict.counts
        result.speculative_output_stride, result.num_non_draft_tokens_per_req = width, 0
        logits = result.logits_output
        if logits.next_token_logprobs is not None:
            logprobs.put(logits, choices, width)
        if logits.hidden_states is not None:
            logits.hidden_states = logits.hidden_states.repeat_interleave(width, 0)
        return result

    @staticmethod
    def _give_up(batch: Any, rows: list[RowPlan]) -> None:
        for req, row in zip(batch.reqs, rows, strict=True):
            if row.verifies:
                abort(req, "sfi.exact: this batch left no room to verify the drafts")

    @staticmethod
    def _finish(result: Any, lengths: Tensor, tokens: Tensor, publish: Publish | None) -> Any:
        """What the next pass starts from."""
        result.new_seq_lens, result.next_draft_input = lengths, LastTokens(tokens, lengths)
        if publish is not None:
            publish(lengths)
        return result

    def on_verify_complete_cpu(self, num_correct_drafts_per_req: list[int], batch_size: int = 0) -> None:
        """The scheduler reads a decode pass's result: the tokens that each request got."""
        rows = self.launched.popleft()
        if not self.launched:
            self.passes.unread.read()
        for row, tokens in zip(rows, num_correct_drafts_per_req, strict=True):
            if row.verifies and row.state is not None:
                row.state.drafting.verified(row.verifies, tokens - 1, row.copied)
