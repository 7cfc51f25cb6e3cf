"""Evidence at the end of a prompt for the Triton backend: the layers' last W queries, read while a stock one runs."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from sfi_sglang import carry, selector
from sfi_sglang import torch_executor as attention
from sfi_sglang.kernels.evidence import prompt_evidence
from sfi_sglang.options import PROMPT_QUERIES
from sfi_sglang.plan import Step
from sfi_sglang.row_table import RowTable
from sfi_sglang.state import RequestState


@dataclass
class Prompt:
    """One SFI request of an extend batch."""

    state: RequestState
    queries: slice  # its last rows of q
    length: int
    slots: Tensor  # its line of req_to_token
    last: bool  # the prompt ends in this pass
    offset: int = 0  # of its evidence
    candidates: Tensor | None = None  # carry=inherit: positions [layers, KV, c]
    inherited_evidence: list[Tensor] = field(default_factory=list)  # carry=inherit: log scores [KV, c] per layer


class PromptObserver:
    """Follows one extend batch through the layers of the model."""

    def __init__(self, backend) -> None:
        self.backend, shape = backend, backend.shape
        self.table = RowTable(shape.requests, shape.evidence_tokens, backend.memory.scores.device)
        self.prompts: list[Prompt] = []

    def observe(self, q: Tensor, layer, forward_batch) -> None:
        """After layer `layer` of a prefill pass; q [tokens, heads * D]."""
        if layer.layer_id == 0:
            self._begin(forward_batch)
        if not self.prompts:
            return
        q = q.view(-1, layer.tp_q_head_num, layer.qk_head_dim)
        for prompt in self.prompts:
            queries = prompt.state.keep_tail(layer.layer_id, q[prompt.queries])
            if prompt.last:
                self._take(prompt, layer, queries)
        if layer.layer_id == self.backend.shape.layers - 1:
            self._select()

    def _begin(self, batch) -> None:
        planner, req_to_token = self.backend.planner, self.backend.req_to_token
        rows = planner.rows_for(batch.rids, batch.batch_size)
        self.backend.memory.table.follow_stream()
        self.prompts, end = [], 0
        self.table.clear()
        for row, count in zip(rows, batch.extend_seq_lens_cpu, strict=False):  # a padded batch has no plan
            end += count
            if row.state is None or row.step not in (Step.CHUNK, Step.SLOW):
                continue
            queries = slice(end - min(count, PROMPT_QUERIES), end)
            slots = req_to_token[row.pool_row, : row.length]
            prompt = Prompt(row.state, queries, row.length, slots, row.step is Step.SLOW)
            self.prompts.append(prompt)
            if prompt.last:
                row.state.memory = row.state.memory or self.backend.memory.table.acquire()
                if row.state.memory is None:
                    self.prompts.pop()
                    continue
                prompt.candidates = carry.inherited_candidates(row.state.inherited, row.state.options, row.length)
                if prompt.candidates is None:
                    prompt.offset = self.table.slow_row(
                        len(self.prompts) - 1, row.length, row.state.options, row.state.memory
                    )

    def _take(self, prompt: Prompt, layer, queries: Tensor) -> None:
        shape, options = self.backend.shape, prompt.state.options
        grouped = attention.grouped_queries(queries, shape.kv_heads)
        keys = self.backend.pool.get_key_buffer(layer.layer_id)
        if prompt.candidates is not None:
            positions = prompt.candidates[layer.layer_id]
            index = attention.head_major(prompt.slots[positions.clamp_min(0)], shape.kv_heads)
            chosen = attention.gather(keys, index, queries.dtype)
            logits = selector.attention_logits(grouped, chosen, layer.scaling)
            log_p = carry.mask_logits(logits, positions).log_softmax(-1)
            prompt.inherited_evidence.append(selector.power_mean(log_p, options.selector))
            return
        count = options.candidates(prompt.length)
        out = self.backend.memory.scores[0, layer.layer_id, :, prompt.offset : prompt.offset + count]
        agreement = options.selector.agreement
        prompt_evidence(grouped, keys, prompt.slots, options.sink, count, layer.scaling, agreement, out)

    def _select(self) -> None:
        """After the last layer: the memories of all prompts that end here."""
        shape, scores = self.backend.shape, self.backend.memory.scores
        for prompt in (prompt for prompt in self.prompts if prompt.last):
            state = prompt.state
            memory, options = state.memory, state.options
            if prompt.candidates is not None:
                merged = torch.stack(prompt.inherited_evidence)
                picks = selector.select(merged, 0, options.selected, options.selector, prompt.candidates)
                memory.count, memory.recent_start = picks.shape[-1], options.recent_start(prompt.length)
                memory.table.positions[memory.row, :, :, : memory.count] = picks
            elif state.inherited is not None and options.carry == "merge":
                count = options.candidates(prompt.length)
                line = scores[0, :, :, prompt.offset : prompt.offset + count]
                line.copy_(carry.add_bonus(line, state.inherited, options.sink))
            state.inherited = None
            state.query_tail.clear()
        if self.table.slow:
            self.table.load()
            group = shape.heads // shape.kv_heads
            self.backend.memory.refresh(self.table, len(self.prompts), PROMPT_QUERIES * group)
        self.prompts = []
