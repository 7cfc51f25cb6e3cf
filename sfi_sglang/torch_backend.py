"""The attention backend `sfi` in plain torch, for CPUs and as reference: full attention for dense and slow rows, the
visible memory for fast rows, in one batch.

Built on SGLang's torch_native backend (layers/attention/torch_native_backend.py), which still serves what SFI does not:
cross attention, encoder layers and sliding windows.
"""

from dataclasses import dataclass, field

import torch
from sglang.srt.layers.attention.torch_native_backend import TorchNativeAttnBackend
from sglang.srt.layers.radix_attention import AttentionType
from sglang.srt.mem_cache.memory_pool import KVWriteLoc
from torch import Tensor

from sfi_sglang import carry, doors, selector
from sfi_sglang import torch_executor as attention
from sfi_sglang.plan import Planner, Row, Step
from sfi_sglang.state import RequestState, SparseMemory


@dataclass
class RowPass:
    """One request in one forward pass."""

    row: Row
    queries: slice  # its rows of q
    index: Tensor  # flat pool rows: [KV, L] dense, [layers, KV, n] fast
    old_visible: Tensor | None = None  # positions [layers, KV, n] of the memory about to be replaced
    candidates: Tensor | None = None  # carry=inherit: positions [layers, KV, c] to choose from
    evidence: list[Tensor] = field(default_factory=list)  # merged log scores [KV, n] or [KV, c], one per layer
    coverage: list[float] = field(default_factory=list)


class SFITorchBackend(TorchNativeAttnBackend):
    """Slow-fast attention over SGLang's token-to-KV pool."""

    def __init__(self, runner, planner: Planner):
        """
        Raises:
            ValueError: another backend serves the prefill, so that no prompt would leave a memory.
        """
        if runner.prefill_attention_backend_str != doors.BACKEND:
            raise ValueError("sfi's torch executor serves the prefill too: give --attention-backend sfi alone")
        super().__init__(runner)
        self.planner = planner
        self.kv_heads = self.token_to_kv_pool.get_key_buffer(0).shape[-2]  # of this tensor-parallel rank
        self.layers = runner.model_config.num_hidden_layers
        self.passes: list[RowPass] = []

    def init_forward_metadata(self, forward_batch) -> None:
        super().init_forward_metadata(forward_batch)
        rows = self.planner.rows_for(forward_batch.rids, forward_batch.batch_size)
        lengths = forward_batch.seq_lens_cpu.tolist()
        counts = [1] * len(lengths) if forward_batch.forward_mode.is_decode() else forward_batch.extend_seq_lens_cpu
        self.passes, start = [], 0
        for row, pool_row, length, count in zip(
            rows, forward_batch.req_pool_indices.tolist(), lengths, counts, strict=True
        ):
            slots = self.req_to_token_pool.req_to_token[pool_row, :length]
            self.passes.append(self._prepare(row, slots, slice(start, start + count), length))
            start += count

    def _prepare(self, row: Row, slots: Tensor, queries: slice, length: int) -> RowPass:
        visible = None
        if row.state is not None and row.step in (Step.FAST, Step.SLOW):
            visible = visible_positions(row.state, length, self.layers, self.kv_heads, slots.device)
        if row.step is Step.FAST:
            assert visible is not None, "a fast step needs a memory"
            return RowPass(row, queries, attention.head_major(slots[visible], self.kv_heads))
        item = RowPass(row, queries, attention.dense_index(slots, self.kv_heads), visible)
        if row.step is Step.SLOW and row.state is not None:
            item.candidates = carry.inherited_candidates(row.state.inherited, row.state.options, length)
        return item

    def forward_decode(self, q, k, v, layer, forward_batch, save_kv_cache=True, **kwargs):
        if not _plain(layer):
            return super().forward_decode(q, k, v, layer, forward_batch, save_kv_cache)
        return self._forward(q, k, v, layer, forward_batch, save_kv_cache, attention.decode)

    def forward_extend(self, q, k, v, layer, forward_batch, save_kv_cache=True, **kwargs):
        if not _plain(layer):
            return super().forward_extend(q, k, v, layer, forward_batch, save_kv_cache)
        return self._forward(q, k, v, layer, forward_batch, save_kv_cache, attention.extend)

    def _forward(self, q, k, v, layer, forward_batch, save_kv_cache, attend) -> Tensor:
        if save_kv_cache and k is not None:
            self.token_to_kv_pool.set_kv_buffer(layer, KVWriteLoc(forward_batch.out_cache_loc, None), k, v)
        keys = self.token_to_kv_pool.get_key_buffer(layer.layer_id)
        values = self.token_to_kv_pool.get_value_buffer(layer.layer_id)
        q = q.view(-1, layer.tp_q_head_num, layer.qk_head_dim)
        out = q.new_empty(q.shape[0], layer.tp_q_head_num, layer.v_head_dim)
        for item in self.passes:
            fast = item.row.step is Step.FAST
            index = item.index[layer.layer_id] if fast else item.index
            k_row = attention.gather(keys, index, q.dtype)
            v_row = attention.gather(values, index, q.dtype)
            queries = q[item.queries]
            if attend is attention.decode:
                out[item.queries] = attention.decode(queries[0], k_row, v_row, layer.scaling)
            else:
                out[item.queries] = attention.extend(queries, k_row, v_row, layer.scaling)
            if (state := item.row.state) is None:
                continue
            if item.row.step is Step.CHUNK:
                state.keep_tail(layer.layer_id, queries)
            elif item.row.step is Step.SLOW:
                self._observe(item, state, layer, queries, k_row)
        return out.view(q.shape[0], -1)

    def _observe(self, item: RowPass, state: RequestState, layer, queries: Tensor, keys: Tensor) -> None:
        """Take this layer's evidence of a slow row; after the last layer, select the new memory of all layers."""
        prefill = queries.shape[0] > 1 or bool(state.query_tail)
        rows = state.keep_tail(layer.layer_id, queries) if prefill else queries
        grouped = attention.grouped_queries(rows, self.kv_heads)
        sink, recent_start = state.options.sink, state.options.recent_start(item.row.length)
        if item.candidates is not None:
            positions = item.candidates[layer.layer_id]
            logits = selector.attention_logits(grouped, carry.gather_keys(keys, positions), layer.scaling)
            logits = carry.mask_logits(logits, positions)
        else:
            full = selector.attention_logits(grouped, keys, layer.scaling)
            if item.old_visible is not None:
                item.coverage.append(attention.coverage(full, item.old_visible[layer.layer_id]))
            logits = full[..., sink:recent_start]
        item.evidence.append(selector.power_mean(logits.log_softmax(-1), state.options.selector))
        if layer.layer_id == self.layers - 1:
            self._remember(item, state, grouped.shape[1])

    def _remember(self, item: RowPass, state: RequestState, rows: int) -> None:
        """Select the memory of all layers at once from the evidence of `rows` queries."""
        sink, evidence = state.options.sink, torch.stack(item.evidence)
        if item.candidates is None and state.inherited is not None and state.options.carry == "merge":
            evidence = carry.add_bonus(evidence, state.inherited, sink)
        picks = selector.select(evidence, rows, state.options.selected, state.options.selector, item.candidates)
        if item.candidates is None:
            picks = picks + sink
        observed = state.memory.observed if state.memory is not None else ()
        if item.coverage:
            observed += ((item.row.length, sum(item.coverage) / len(item.coverage)),)
        state.memory = SparseMemory(picks, state.options.recent_start(item.row.length), observed)
        state.inherited = None
        state.query_tail.clear()


def visible_positions(state: RequestState, length: int, layers: int, kv_heads: int, device) -> Tensor | None:
    """Positions a fast step attends to, [layers, KV, n]; None while there is no memory. Policy `never` keeps a sliding
    window: nothing refreshes it, so its recent tokens would grow without bound."""
    options = state.options
    if options.policy == "never":
        empty = torch.empty(layers, kv_heads, 0, dtype=torch.int64, device=device)
        return attention.visible_positions(empty, options.sink, options.recent_start(length), length)
    if state.memory is None:
        return None
    return attention.visible_positions(state.memory.positions, options.sink, state.memory.recent_start, length)


def _plain(layer) -> bool:
    """Causal self-attention over the whole context."""
    window = layer.sliding_window_size
    return (
        not layer.is_cross_attention
        and layer.attn_type != AttentionType.ENCODER_ONLY
        and (window is None or window < 0)
    )
