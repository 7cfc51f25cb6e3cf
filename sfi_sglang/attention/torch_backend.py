"""All of attention in plain torch, for CPUs and as reference: full attention for dense and slow rows, the visible
tokens for fast rows, in one batch; sliding windows in the layers that have them.

Built on SGLang's torch_native backend (layers/attention/torch_native_backend.py). It stands in for the backend that
SGLang chose, because the stock one for CPUs knows neither sinks nor caps.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from sglang.srt.layers.attention.torch_native_backend import TorchNativeAttnBackend
from sglang.srt.mem_cache.memory_pool import KVWriteLoc
from torch import Tensor

from sfi_sglang.api.options import PROMPT_QUERIES
from sfi_sglang.attention import controls, reference
from sfi_sglang.attention.layers import CoveredLayers, Scorings
from sfi_sglang.attention.model_support import sinks_of
from sfi_sglang.attention.sparse_extend import Sparsity, sparse_extend
from sfi_sglang.scheduling.request_state import Refresh, RequestState
from sfi_sglang.scheduling.row_plan import RowPlan, Step, repairs_of
from sfi_sglang.scheduling.step_planner import StepPlanner
from sfi_sglang.selection import reuse, selector
from sfi_sglang.selection.scoring import Scoring
from sfi_sglang.selection.table import HostSelection


@dataclass
class RowPass:
    """One request in one forward pass.

    queries: its rows of q; of a row that repairs, those of the repaired tokens first.
    slots: KV slots of its tokens, [L].
    positions: of a row that repairs, those of its queries.
    index: flat pool rows, [KV, L] dense, [layers, KV, n] fast.
    refresh: of a slow row.
    old_visible: positions [layers, KV, n] of the selection about to be replaced, and sink and recent ones.
    candidates: carry=inherit, positions [layers, KV, c] to choose from.
    evidence: merged log scores [KV, n] or [KV, c], one per layer.
    coverage: and recall [KV, 2], one per layer, if there was an old selection.
    """

    plan: RowPlan
    queries: slice | list[int]
    slots: Tensor
    index: Tensor
    positions: Tensor | None = None
    refresh: Refresh | None = None
    old_visible: Tensor | None = None
    candidates: Tensor | None = None
    evidence: list[Tensor] = field(default_factory=list)
    coverage: list[Tensor] = field(default_factory=list)


class SFITorchBackend(TorchNativeAttnBackend):
    """Slow-fast attention over SGLang's token-to-KV pool."""

    def __init__(self, runner: Any, layers: CoveredLayers, planner: StepPlanner) -> None:
        super().__init__(runner)
        self.planner, self.layers = planner, layers
        self.scorings = Scorings(self.token_to_kv_pool)
        self.passes: list[RowPass] = []

    def init_forward_metadata(self, forward_batch: Any) -> None:
        super().init_forward_metadata(forward_batch)
        rows = self.planner.rows_for(forward_batch.rids, forward_batch.batch_size)
        lengths = forward_batch.seq_lens.tolist()  # the host may know only the most that they may be
        counts = [1] * len(lengths) if forward_batch.forward_mode.is_decode() else forward_batch.extend_seq_lens_cpu
        self.passes, start = [], 0
        for row, pool_index, length, count in zip(
            rows, forward_batch.req_pool_indices.tolist(), lengths, counts, strict=False
        ):  # rows behind the requests' belong to one of them
            slots = self.req_to_token_pool.req_to_token[pool_index, :length]
            self.passes.append(self._prepare(row, slots, slice(start, start + count), length))
            start += count
        for index, row, repair in repairs_of(rows):
            found = self.passes[index]
            found.queries = [*range(start, start + len(repair.tokens)), index]
            found.positions = torch.tensor([*repair.positions, row.length - 1])
            start += len(repair.tokens)

    def _prepare(self, row: RowPlan, slots: Tensor, queries: slice, length: int) -> RowPass:
        state = row.state
        if state is not None and row.step is Step.FAST:
            if state.options.fast != "memory":
                return RowPass(row, queries, slots, reference.dense_index(slots, self.layers.kv_heads))
            visible = self._visible_positions(state, length, slots.device)
            return RowPass(row, queries, slots, reference.head_major(slots[visible], self.layers.kv_heads))
        found = RowPass(row, queries, slots, reference.dense_index(slots, self.layers.kv_heads))
        if state is not None and row.step is Step.SLOW:
            if state.selection is not None:
                found.old_visible = self._visible_positions(state, length, slots.device)
            found.candidates = reuse.inherited_candidates(state.inherited, state.options, row.settled or length)
            found.refresh = state.begin_refresh(row.settled or length)
        return found

    def _visible_positions(self, state: RequestState, length: int, device: torch.device) -> Tensor:
        """Positions that a fast step attends to, int64 [layers, KV, n]."""
        sink, count, recent = state.visible_ends(length)
        if isinstance(state.selection, HostSelection):
            positions = state.selection.positions
        else:
            positions = torch.empty(len(self.layers.ids), self.layers.kv_heads, 0, dtype=torch.int64, device=device)
        assert positions.shape[-1] == count, "a pass has not left the selection that was begun"
        return reference.visible_positions(positions, sink, recent, length)

    def forward_decode(
        self, q: Tensor, k: Tensor, v: Tensor, layer: Any, forward_batch: Any, save_kv_cache: bool = True, **kwargs: Any
    ) -> Tensor:
        scoring = self.scorings.of(layer, sinks_of(kwargs))
        if save_kv_cache and k is not None:
            where = KVWriteLoc.for_batch(forward_batch, swa_loc=self.swa_out_cache_loc)
            self.token_to_kv_pool.set_kv_buffer(layer, where, k, v, layer.k_scale, layer.v_scale)
        q = q.view(-1, layer.tp_q_head_num, layer.qk_head_dim)
        keys, values = self.token_to_kv_pool.get_kv_buffer(layer.layer_id)
        run = self._covered if layer.layer_id in self.layers.index else self._windowed
        return run(q, keys, values, layer, scoring).view(q.shape[0], -1)

    def forward_extend(
        self, q: Tensor, k: Tensor, v: Tensor, layer: Any, forward_batch: Any, save_kv_cache: bool = True, **kwargs: Any
    ) -> Tensor:
        return self.forward_decode(q, k, v, layer, forward_batch, save_kv_cache, **kwargs)

    def _windowed(self, q: Tensor, keys: Tensor, values: Tensor, layer: Any, scoring: Scoring) -> Tensor:
        """Every row in a layer that sees the last `sliding_window_size` tokens before each query."""
        out, window = torch.empty_like(q), layer.sliding_window_size
        for found in self.passes:
            queries, length = q[found.queries], found.slots.shape[0]
            positions = found.positions
            if positions is None:
                positions = torch.arange(length - queries.shape[0], length)
            first = max(int(positions.min()) - window, 0)
            slots = found.slots[first:]
            if self.use_sliding_window_kv_pool:
                slots = self.token_to_kv_pool.translate_loc_from_full_to_swa(slots)
            index = reference.dense_index(slots, layer.tp_k_head_num)
            row_keys, row_values = reference.gather(keys, index, q.dtype), reference.gather(values, index, q.dtype)
            out[found.queries] = reference.extend(queries, row_keys, row_values, scoring, positions - first, window)
        return out

    def _covered(self, q: Tensor, keys: Tensor, values: Tensor, layer: Any, scoring: Scoring) -> Tensor:
        out, number = torch.empty_like(q), self.layers.index[layer.layer_id]
        for found in self.passes:
            step, state = found.plan.step, found.plan.state
            queries, index = q[found.queries], found.index
            if state is not None and step is Step.FAST:
                index = self._visible(index, state, queries[0], keys, number, scoring)
            row_keys, row_values = reference.gather(keys, index, q.dtype), reference.gather(values, index, q.dtype)
            if found.plan.sparse and state is not None:
                how = Sparsity.of(state.options, queries.shape[0] - found.plan.sparse)
                out[found.queries] = sparse_extend(queries, row_keys, row_values, scoring, how)
            elif queries.shape[0] == 1:
                out[found.queries] = reference.decode(queries[0], row_keys, row_values, scoring)
            else:
                out[found.queries] = reference.extend(queries, row_keys, row_values, scoring, found.positions)
            if state is not None and step is Step.FAST and state.options.policy == "drift":
                self._note_drift(state, found.plan.length, queries[0], row_keys, number, scoring)
            elif state is not None and step is Step.CHUNK:
                state.keep_tail(number, queries)
            elif state is not None and found.refresh is not None:
                last = queries if found.positions is None else queries[-1:]
                self._observe(found, found.refresh, state, number, last, row_keys, scoring)
        return out

    def _visible(
        self, index: Tensor, state: RequestState, query: Tensor, keys: Tensor, number: int, scoring: Scoring
    ) -> Tensor:
        """Flat pool rows [KV, n] that a fast row sees in covered layer `number`."""
        if state.options.fast == "memory":
            return index[number]
        every = reference.gather(keys, index, query.dtype)
        return index.gather(-1, controls.choose(query, every, state.options, scoring))

    def _note_drift(
        self, state: RequestState, length: int, query: Tensor, keys: Tensor, number: int, scoring: Scoring
    ) -> None:
        if isinstance(state.selection, HostSelection):
            selected = state.selection.positions[number]
            found = controls.drift(query, keys, selected, state.recent_start, scoring)
            state.drift.setdefault(length, []).append(float(found.max()))

    def _observe(
        self,
        found: RowPass,
        refresh: Refresh,
        state: RequestState,
        number: int,
        queries: Tensor,
        keys: Tensor,
        scoring: Scoring,
    ) -> None:
        """Take a slow row's evidence of covered layer `number`; after the last one, select for all of them."""
        prefill = queries.shape[0] > 1 or bool(state.query_tail)
        rows = state.keep_tail(number, queries) if prefill else queries
        grouped = reference.grouped_queries(rows, self.layers.kv_heads)
        if found.candidates is not None:
            positions = found.candidates[number]
            logits = selector.attention_logits(grouped, reuse.gather_keys(keys, positions), scoring)
            logits = reuse.mask_logits(logits, positions)
        else:
            full = selector.attention_logits(grouped, keys, scoring)
            if found.old_visible is not None:
                visible = found.old_visible[number]
                found.coverage.append(reference.coverage(full, visible, refresh.candidate_range))
            logits = full[..., refresh.first : refresh.first + refresh.candidates]
        found.evidence.append(selector.power_mean(logits.log_softmax(-1), state.options.selector))
        if number == len(self.layers.ids) - 1:
            group = grouped.shape[1] // rows.shape[0]
            self._select(found, refresh, state, PROMPT_QUERIES * group if prefill else group)

    def _select(self, found: RowPass, refresh: Refresh, state: RequestState, rows: int) -> None:
        """All layers at once. rows: queries per KV head; a prompt's count as W, however many it gave."""
        evidence = torch.stack(found.evidence)
        if found.candidates is None and state.inherited is not None and state.options.carry == "merge":
            evidence = reuse.add_bonus(evidence, state.inherited, refresh.first)
        picks = selector.select(evidence, rows, refresh.keep, state.options.selector, found.candidates)
        if found.candidates is None:
            picks = picks + refresh.first
        coverages = state.selection.coverages if isinstance(state.selection, HostSelection) else ()
        if found.coverage:
            coverages += (torch.stack(found.coverage),)
        state.selection = HostSelection(picks, coverages)
        state.inherited = None
        state.query_tail.clear()
