"""Evidence at the end of a prompt for the Triton backend: the layers' last W queries, read while a stock one runs."""

from dataclasses import dataclass

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
    tokens: Tensor | None = None  # if it ends in this pass: its line of req_to_token


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
        """After layer `layer` of a prefill pass; q [tokens, heads * D]. The evidence waits for the last layer: there is
        room for one long context's, and prompts that end in one pass take turns."""
        if layer.layer_id == 0:
            self._begin(forward_batch)
        if not self.prompts:
            return
        q = q.view(-1, layer.tp_q_head_num, layer.qk_head_dim)
        for prompt in self.prompts:
            prompt.state.keep_tail(layer.layer_id, q[prompt.queries])
        if layer.layer_id == self.backend.shape.layers - 1:
            for prompt in self.prompts:
                if prompt.tokens is not None:
                    self._select(prompt, prompt.tokens, layer.scaling)
            self._refresh()
            self.prompts = []

    def _begin(self, batch) -> None:
        memory = self.backend.memory.table
        rows = self.backend.planner.rows_for(batch.rids, batch.batch_size)
        memory.follow_stream()
        self.prompts, end = [], 0
        for row, count in zip(rows, batch.extend_seq_lens_cpu, strict=False):  # a padded batch has no plan
            end += count
            if row.state is None or row.step not in (Step.CHUNK, Step.SLOW):
                continue
            prompt = Prompt(row.state, slice(end - min(count, PROMPT_QUERIES), end), row.length)
            if row.step is Step.SLOW:
                row.state.memory = row.state.memory or memory.acquire()
                if row.state.memory is None:
                    continue
                prompt.tokens = self.backend.req_to_token[row.pool_row]
            self.prompts.append(prompt)

    def _select(self, prompt: Prompt, tokens: Tensor, scale: float) -> None:
        """The memory of a prompt that ends here: at once from inherited candidates, else with the next `_refresh`."""
        state, options, scores = prompt.state, prompt.state.options, self.backend.memory.scores[0]
        positions = carry.inherited_candidates(state.inherited, options, prompt.length)
        if positions is not None:
            slots = tokens[positions.clamp_min(0)].masked_fill(positions == carry.NOWHERE, -1)
            found = torch.empty(slots.shape, device=slots.device)
            self._read(state, slots, scale, found)
            picks = selector.select(found, 0, options.selected, options.selector, positions)
            memory = state.memory
            memory.count, memory.recent_start = picks.shape[-1], options.recent_start(prompt.length)
            memory.table.positions[memory.row, :, :, : memory.count] = picks
        else:
            count = options.candidates(prompt.length)
            if not self.table.has_room(count):
                self._refresh()
            start = self.table.slow_row(self.table.slow, prompt.length, options, state.memory)
            slots = tokens[options.sink : options.sink + count].expand(*scores.shape[:2], count)
            found = scores[:, :, start : start + count]
            self._read(state, slots, scale, found)
            if state.inherited is not None and options.carry == "merge":
                found.copy_(carry.add_bonus(found, state.inherited, options.sink))
        state.inherited = None
        state.query_tail.clear()

    def _read(self, state: RequestState, slots: Tensor, scale: float, out: Tensor) -> None:
        """Evidence of all layers, float32 [layers, KV, c], at KV slots int32 [layers, KV, c], -1 for none."""
        for layer, queries in state.query_tail.items():
            grouped = attention.grouped_queries(queries, self.backend.shape.kv_heads)
            keys = self.backend.pool.get_key_buffer(layer)
            prompt_evidence(grouped, keys, slots[layer], scale, state.options.selector.agreement, out[layer])

    def _refresh(self) -> None:
        """Select from the evidence that has been read."""
        if self.table.slow:
            self.table.load()
            group = self.backend.shape.heads // self.backend.shape.kv_heads
            self.backend.memory.refresh(self.table, self.table.slow, PROMPT_QUERIES * group)
            self.table.clear()
