"""The attention backend `sfi` in plain torch, for CPUs and as reference: full attention for dense and slow rows, the
visible tokens for fast rows, in one batch.

Built on SGLang's torch_native backend (layers/attention/torch_native_backend.py).
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from sglang.srt.layers.attention.torch_native_backend import TorchNativeAttnBackend
from sglang.srt.mem_cache.memory_pool import KVWriteLoc
from torch import Tensor

from sfi_sglang.api.admission import BACKEND
from sfi_sglang.api.options import PROMPT_QUERIES
from sfi_sglang.attention import controls, reference
from sfi_sglang.attention.model_support import check_arguments
from sfi_sglang.scheduling.request_state import Refresh, RequestState
from sfi_sglang.scheduling.step_planner import RowPlan, Step, StepPlanner, repairs_of
from sfi_sglang.selection import reuse, selector
from sfi_sglang.selection.scoring import Scoring
from sfi_sglang.selection.table import HostSelection


@dataclass
class RowPass:
    """One request in one forward pass.

    queries: its rows of q; of a row that repairs, those of the repaired tokens first.
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
    index: Tensor
    positions: Tensor | None = None
    refresh: Refresh | None = None
    old_visible: Tensor | None = None
    candidates: Tensor | None = None
    evidence: list[Tensor] = field(default_factory=list)
    coverage: list[Tensor] = field(default_factory=list)


class SFITorchBackend(TorchNativeAttnBackend):
    """Slow-fast attention over SGLang's token-to-KV pool."""

    def __init__(self, runner: Any, planner: StepPlanner) -> None:
        """
        Raises:
            ValueError: another backend serves the prefill, so that no prompt would leave a selection.
        """
        if runner.prefill_attention_backend_str != BACKEND:
            raise ValueError("sfi's torch executor serves the prefill too: give --attention-backend sfi alone")
        super().__init__(runner)
        self.planner = planner
        self.kv_heads = self.token_to_kv_pool.get_key_buffer(0).shape[-2]  # of this tensor-parallel rank
        self.layers = runner.model_config.num_hidden_layers
        self.passes: list[RowPass] = []

    def init_forward_metadata(self, forward_batch: Any) -> None:
        super().init_forward_metadata(forward_batch)
        rows = self.planner.rows_for(forward_batch.rids, forward_batch.batch_size)
        lengths = forward_batch.seq_lens_cpu.tolist()
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
                return RowPass(row, queries, reference.dense_index(slots, self.kv_heads))
            visible = self._visible_positions(state, length, slots.device)
            return RowPass(row, queries, reference.head_major(slots[visible], self.kv_heads))
        found = RowPass(row, queries, reference.dense_index(slots, self.kv_heads))
        if state is not None and row.step is Step.SLOW:
            if state.selection is not None:
                found.old_visible = self._visible_positions(state, length, slots.device)
            found.candidates = reuse.inherited_candidates(state.inherited, state.options, length)
            found.refresh = state.begin_refresh(length)
        return found

    def _visible_positions(self, state: RequestState, length: int, device: torch.device) -> Tensor:
        """Positions that a fast step attends to, int64 [layers, KV, n]."""
        sink, count, recent = state.visible_ends(length)
        if isinstance(state.selection, HostSelection):
            positions = state.selection.positions
        else:
            positions = torch.empty(self.layers, self.kv_heads, 0, dtype=torch.int64, device=device)
        assert positions.shape[-1] == count, "a pass has not left the selection that was begun"
        return reference.visible_positions(positions, sink, recent, length)

    def forward_decode(
        self, q: Tensor, k: Tensor, v: Tensor, layer: Any, forward_batch: Any, save_kv_cache: bool = True, **kwargs: Any
    ) -> Tensor:
        check_arguments(kwargs)
        if save_kv_cache and k is not None:
            self.token_to_kv_pool.set_kv_buffer(layer, KVWriteLoc(forward_batch.out_cache_loc, None), k, v)
        return self._forward(q, layer)

    def forward_extend(
        self, q: Tensor, k: Tensor, v: Tensor, layer: Any, forward_batch: Any, save_kv_cache: bool = True, **kwargs: Any
    ) -> Tensor:
        return self.forward_decode(q, k, v, layer, forward_batch, save_kv_cache, **kwargs)

    def _forward(self, q: Tensor, layer: Any) -> Tensor:
        keys = self.token_to_kv_pool.get_key_buffer(layer.layer_id)
        values = self.token_to_kv_pool.get_value_buffer(layer.layer_id)
        q = q.view(-1, layer.tp_q_head_num, layer.qk_head_dim)
        out = q.new_empty(q.shape[0], layer.tp_q_head_num, layer.v_head_dim)
        for found in self.passes:
            step, state = found.plan.step, found.plan.state
            queries, index = q[found.queries], found.index
            if state is not None and step is Step.FAST:
                index = self._visible(index, state, queries[0], keys, layer)
            row_keys, row_values = reference.gather(keys, index, q.dtype), reference.gather(values, index, q.dtype)
            if queries.shape[0] == 1:
                out[found.queries] = reference.decode(queries[0], row_keys, row_values, Scoring(layer.scaling))
            else:
                out[found.queries] = reference.extend(
                    queries, row_keys, row_values, Scoring(layer.scaling), found.positions
                )
            if state is not None and step is Step.FAST and state.options.policy == "drift":
                self._note_drift(state, found.plan.length, queries[0], row_keys, layer)
            elif state is not None and step is Step.CHUNK:
                state.keep_tail(layer.layer_id, queries)
            elif state is not None and found.refresh is not None:
                last = queries if found.positions is None else queries[-1:]
                self._observe(found, found.refresh, state, layer, last, row_keys)
        return out.view(q.shape[0], -1)

    def _visible(self, index: Tensor, state: RequestState, query: Tensor, keys: Tensor, layer: Any) -> Tensor:
        """Flat pool rows [KV, n] that a fast row sees in one layer."""
        if state.options.fast == "memory":
            return index[layer.layer_id]
        every = reference.gather(keys, index, query.dtype)
        return index.gather(-1, controls.choose(query, every, state.options, Scoring(layer.scaling)))

    def _note_drift(self, state: RequestState, length: int, query: Tensor, keys: Tensor, layer: Any) -> None:
        if isinstance(state.selection, HostSelection):
            selected = state.selection.positions[layer.layer_id]
            found = controls.drift(query, keys, selected, state.recent_start, Scoring(layer.scaling))
            state.drift.setdefault(length, []).append(float(found.max()))

    def _observe(
        self, found: RowPass, refresh: Refresh, state: RequestState, layer: Any, queries: Tensor, keys: Tensor
    ) -> None:
        """Take this layer's evidence of a slow row; after the last layer, select for all of them."""
        prefill = queries.shape[0] > 1 or bool(state.query_tail)
        rows = state.keep_tail(layer.layer_id, queries) if prefill else queries
        grouped = reference.grouped_queries(rows, self.kv_heads)
        if found.candidates is not None:
            positions = found.candidates[layer.layer_id]
            logits = selector.attention_logits(grouped, reuse.gather_keys(keys, positions), Scoring(layer.scaling))
            logits = reuse.mask_logits(logits, positions)
        else:
            full = selector.attention_logits(grouped, keys, Scoring(layer.scaling))
            if found.old_visible is not None:
                visible = found.old_visible[layer.layer_id]
                found.coverage.append(reference.coverage(full, visible, refresh.candidate_range))
            logits = full[..., refresh.first : refresh.first + refresh.candidates]
        found.evidence.append(selector.power_mean(logits.log_softmax(-1), state.options.selector))
        if layer.layer_id == self.layers - 1:
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
