"""Evidence at the end of a prompt for the Triton backend: the layers' last W queries, read while a stock one runs."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from sfi_sglang import carry, selector
from sfi_sglang import torch_executor as attention
from sfi_sglang.kernels.evidence import prompt_evidence
from sfi_sglang.kernels.rows import TILE
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
    last: bool  # the prompt ends in this pass, and then:
    positions: Tensor | None = None  # carry=inherit: of the candidates, [layers, KV, c]
    slots: Tensor = field(init=False)  # KV slots of the candidates, int32 [layers, KV, c], -1 for none
    scores: Tensor = field(init=False)  # their evidence, float32 [layers, KV, c]


class PromptObserver:
    """Follows one extend batch through the layers of the model."""

    def __init__(self, backend) -> None:
        self.backend, shape = backend, backend.shape
        self.table = RowTable(shape.requests, shape.evidence_tokens, backend.memory.scores.device)
        self.prompts: list[Prompt] = []

    def compile(self) -> None:
        """Build the kernels at the server's start, not in its first request."""
        shape, keys = self.backend.shape, self.backend.pool.get_key_buffer(0)
        rows = PROMPT_QUERIES * shape.heads // shape.kv_heads
        slots = torch.full((shape.kv_heads, TILE), -1, dtype=torch.int32, device=keys.device)
        scores = self.backend.memory.scores[0, 0, :, :TILE]
        prompt_evidence(keys.new_zeros(shape.kv_heads, rows, shape.dim), keys, slots, 1.0, False, scores)

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
            prompt = Prompt(row.state, queries, row.length, row.step is Step.SLOW)
            if prompt.last:
                row.state.memory = row.state.memory or self.backend.memory.table.acquire()
                if row.state.memory is None:
                    continue
                self._find_candidates(prompt, req_to_token[row.pool_row])
            self.prompts.append(prompt)

    def _find_candidates(self, prompt: Prompt, tokens: Tensor) -> None:
        """Where the keys to look at are, and where their evidence goes; tokens: a line of req_to_token."""
        state, shape, scores = prompt.state, self.backend.shape, self.backend.memory.scores[0]
        prompt.positions = carry.inherited_candidates(state.inherited, state.options, prompt.length)
        if prompt.positions is not None:
            slots = tokens[prompt.positions.clamp_min(0)]
            prompt.slots = slots.masked_fill(prompt.positions == carry.NOWHERE, -1)
            prompt.scores = torch.empty(slots.shape, device=slots.device)
            return
        first, count = state.options.sink, state.options.candidates(prompt.length)
        offset = self.table.slow_row(len(self.prompts), prompt.length, state.options, state.memory)
        prompt.slots = tokens[first : first + count].expand(shape.layers, shape.kv_heads, count)
        prompt.scores = scores[:, :, offset : offset + count]

    def _take(self, prompt: Prompt, layer, queries: Tensor) -> None:
        i, agreement = layer.layer_id, prompt.state.options.selector.agreement
        grouped = attention.grouped_queries(queries, self.backend.shape.kv_heads)
        keys = self.backend.pool.get_key_buffer(i)
        prompt_evidence(grouped, keys, prompt.slots[i], layer.scaling, agreement, prompt.scores[i])

    def _select(self) -> None:
        """After the last layer: the memories of all prompts that end here."""
        shape = self.backend.shape
        for prompt in (prompt for prompt in self.prompts if prompt.last):
            state = prompt.state
            memory, options = state.memory, state.options
            if prompt.positions is not None:
                picks = selector.select(prompt.scores, 0, options.selected, options.selector, prompt.positions)
                memory.count, memory.recent_start = picks.shape[-1], options.recent_start(prompt.length)
                memory.table.positions[memory.row, :, :, : memory.count] = picks
            elif state.inherited is not None and options.carry == "merge":
                prompt.scores.copy_(carry.add_bonus(prompt.scores, state.inherited, options.sink))
            state.inherited = None
            state.query_tail.clear()
        if self.table.slow:
            self.table.load()
            group = shape.heads // shape.kv_heads
            self.backend.memory.refresh(self.table, len(self.prompts), PROMPT_QUERIES * group)
        self.prompts = []
