"""Evidence at the end of a prompt for the Triton backend: the layers' last W queries, read while a stock one runs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sfi_sglang.api.options import EVIDENCE_PAGE, PROMPT_QUERIES
from sfi_sglang.attention.pass_metadata import PassMetadata
from sfi_sglang.attention.reference import grouped_queries
from sfi_sglang.attention.workspace import Workspace
from sfi_sglang.kernels.evidence import prompt_evidence
from sfi_sglang.scheduling.request_state import RequestState
from sfi_sglang.scheduling.row_plan import RowPlan, Step
from sfi_sglang.selection import reuse, selector
from sfi_sglang.selection.scoring import Scoring
from sfi_sglang.selection.stages import stage_mask
from sfi_sglang.selection.table import NO_LINE, DeviceSelection


@dataclass(frozen=True)
class Prompt:
    """One SFI request of an extend batch. queries: its last rows of q. selection, tokens: if it ends in this pass, its
    line of the selection table and of req_to_token."""

    state: RequestState
    queries: slice
    length: int
    selection: DeviceSelection | None = None
    tokens: Tensor | None = None


class PrefillObserver:
    """Follows one extend batch through the layers of the model.

    keys: layer -> its part of the KV pool, [slots, KV, D].
    """

    def __init__(self, workspace: Workspace, keys: Callable[[int], Tensor], req_to_token: Tensor) -> None:
        self.workspace, self.keys, self.req_to_token = workspace, keys, req_to_token
        self.limits = limits = workspace.limits
        self.group = limits.heads // limits.kv_heads
        self.metadata = PassMetadata(limits.requests, limits.evidence_tokens, workspace.scores.device)
        self.prompts: list[Prompt] = []
        self.scorings: dict[int, Scoring] = {}

    def compile(self, scoring: Scoring, dtype: torch.dtype) -> None:
        """Build the kernels at the server's start, not in its first request. scoring: like the layers'. dtype: of the
        queries."""
        keys = self.keys(0)
        slots = torch.full((self.limits.kv_heads, EVIDENCE_PAGE), -1, dtype=torch.int32, device=keys.device)
        scores = self.workspace.scores[0, 0, :, :EVIDENCE_PAGE]
        for count in range(1, PROMPT_QUERIES + 1):  # a kernel for each power of two of their heads
            shape = (self.limits.kv_heads, count * self.group, self.limits.dim)
            queries = torch.zeros(shape, dtype=dtype, device=keys.device)
            prompt_evidence(queries, keys, slots, scoring, False, scores)
        self.metadata.load()
        self._choose(rows=1)

    def begin(self, rows: Sequence[RowPlan], counts: Sequence[int]) -> None:
        """Before the first layer. counts: new tokens of each row."""
        table = self.workspace.table
        table.follow_stream()
        self.prompts, end = [], 0
        for row, count in zip(rows, counts, strict=False):  # a padded batch has no plan
            end += count
            if row.state is None or row.step not in (Step.CHUNK, Step.SLOW):
                continue
            state, queries = row.state, slice(end - min(count, PROMPT_QUERIES), end)
            if row.step is Step.CHUNK:
                self.prompts.append(Prompt(state, queries, row.length))
                continue
            state.selection = selection = state.selection or table.acquire()
            if selection is None:
                state.failure = NO_LINE
            if isinstance(selection, DeviceSelection):
                tokens = self.req_to_token[row.req_pool_index]
                self.prompts.append(Prompt(state, queries, row.length, selection, tokens))

    def observe(self, q: Tensor, layer: int, scoring: Scoring) -> None:
        """After layer `layer` of a prefill pass; q [tokens, heads, D]. The evidence waits for the last layer: there is
        room for one long context's, and prompts that end in one pass take turns."""
        self.scorings[layer] = scoring
        for prompt in self.prompts:
            prompt.state.keep_tail(layer, q[prompt.queries])
        if layer == self.limits.layers - 1:
            for prompt in self.prompts:
                if prompt.selection is not None and prompt.tokens is not None:
                    self._select(prompt, prompt.selection, prompt.tokens)
            self._refresh()
            self.prompts = []

    def _select(self, prompt: Prompt, selection: DeviceSelection, tokens: Tensor) -> None:
        """Select for a prompt that ends here: at once from inherited candidates, else with the next `_refresh`."""
        state, options, scores = prompt.state, prompt.state.options, self.workspace.scores[0]
        positions = reuse.inherited_candidates(state.inherited, options, prompt.length)
        refresh = state.begin_refresh(prompt.length)
        if positions is not None:
            slots = tokens[positions.clamp_min(0)].masked_fill(positions == reuse.NOWHERE, -1)
            found = torch.empty(slots.shape, device=slots.device)
            self._read(state, slots, found)
            picks = selector.select(found, 0, refresh.keep, options.selector, positions)
            selection.table.positions[selection.line, :, :, : refresh.keep] = picks
        else:
            if not self.metadata.has_room(refresh.candidates):
                self._refresh()
            row, stages = self.metadata.refreshes, stage_mask(options.selector)
            start = self.metadata.refresh(row, refresh, selection.line, stages)
            slots = tokens[refresh.first : refresh.first + refresh.candidates]
            found = scores[:, :, start : start + refresh.candidates]
            self._read(state, slots.expand(*scores.shape[:2], -1), found)
            if state.inherited is not None and options.carry == "merge":
                found.copy_(reuse.add_bonus(found, state.inherited, options.sink))
        state.inherited = None
        state.query_tail.clear()

    def _read(self, state: RequestState, slots: Tensor, out: Tensor) -> None:
        """Evidence of all layers, float32 [layers, KV, c], at KV slots int32 [layers, KV, c], -1 for none."""
        for layer, queries in state.query_tail.items():
            grouped = grouped_queries(queries, self.limits.kv_heads)
            agreement = state.options.selector.agreement
            prompt_evidence(grouped, self.keys(layer), slots[layer], self.scorings[layer], agreement, out[layer])

    def _refresh(self) -> None:
        """Select from the evidence that has been read."""
        if self.metadata.refreshes:
            self.metadata.load()
            self._choose(self.metadata.refreshes)
            self.metadata.clear()

    def _choose(self, rows: int) -> None:
        self.workspace.refresh(self.metadata, rows, PROMPT_QUERIES * self.group)
