"""Triton kernels under CUDA graphs for the decode of the covered layers, around the backend that SGLang chose.

Four graphs per batch size (SGLang's attention graph variants): `dense` is the stock path, for batches with no sparse
row; `fast` attends to selections only, through our kernels or FlashInfer (`--sfi-executor`); `mixed` also has dense and
slow rows and selects anew for the slow ones; in `wide`, rows repair or verify earlier tokens too. Layers that are not
covered are the stock backend's in every graph. So is the prefill, but for sparse extend; after each covered layer we
read the prompt's last queries.
"""

from typing import Any

import torch
from sglang.srt.layers.attention.base_attn_backend import SharedReadEnds
from sglang.srt.mem_cache.memory_pool import KVWriteLoc
from sglang.srt.model_executor.runner_utils.capture_mode import get_capture_attention_variant
from torch import Tensor

from sfi_sglang.api import exact
from sfi_sglang.api.settings import Settings
from sfi_sglang.attention.layers import CoveredLayers, Scorings
from sfi_sglang.attention.model_support import plain_pool, repairs, sinks_of
from sfi_sglang.attention.pass_metadata import LENGTH, PassMetadata, Pieces, fast_parts
from sfi_sglang.attention.prefill import Prefill
from sfi_sglang.attention.stock_proxy import StockProxy
from sfi_sglang.attention.triton_decode import RowAttention, TritonAttention
from sfi_sglang.attention.workspace import Workspace, free_bytes, limits_of
from sfi_sglang.kernels import launch
from sfi_sglang.kernels.new_tokens import NewTokens
from sfi_sglang.scheduling.pass_room import REPAIR_ROWS, REPAIR_TOKENS
from sfi_sglang.scheduling.row_plan import RowPlan, Step, repairs_of
from sfi_sglang.scheduling.step_planner import StepPlanner
from sfi_sglang.selection.stages import stage_mask
from sfi_sglang.selection.table import NO_LINE, DeviceSelection

DENSE, FAST, MIXED, WIDE = "dense", "fast", "mixed", "wide"


class SFITritonBackend(StockProxy):
    """The stock backend, but for the decode of the covered layers; it also listens to their prefill."""

    def __init__(self, runner: Any, stock: Any, layers: CoveredLayers, planner: StepPlanner, settings: Settings):
        """
        Raises:
            RuntimeError, ValueError: the memory is too small, or FlashInfer cannot number it.
        """
        super().__init__(stock)
        self.planner, self.runner, self.layers = planner, runner, layers
        on_cuda = torch.device(runner.device).type == "cuda"
        self.pool, self.req_to_token = runner.token_to_kv_pool, runner.req_to_token_pool.req_to_token
        self.scorings, self.plain = Scorings(self.pool), plain_pool(runner)
        free = free_bytes(runner.device)
        processors = torch.cuda.get_device_properties(runner.device).multi_processor_count if on_cuda else 1
        self.wide = launch.VERIFYING if exact.started_for(runner.server_args) else launch.WIDE
        pieces, parts = self._pieces(processors)
        self.limits = limits_of(runner, layers, settings, free, parts)
        self.workspace = Workspace.allocate(self.limits, runner.device, free)
        rows, evidence = self.limits.graph_rows, self.limits.evidence_tokens
        self.metadata = PassMetadata(rows, evidence, self.req_to_token.device, pieces)
        shared = (self.workspace, self.metadata, self.req_to_token)
        self.attention: dict[str, RowAttention] = {
            FAST: TritonAttention(*shared, launch.FAST, processors),
            MIXED: TritonAttention(*shared, launch.MIXED, processors, logits_out=True),
        }
        if repairs(runner):  # apart: a kernel with no work still takes time in every layer
            self.attention[WIDE] = TritonAttention(*shared, launch.MIXED, processors, logits_out=True, wide=self.wide)
        if self.limits.flashinfer:
            planner.blind_passes = False  # it is told the lengths by the host
            from sfi_sglang.attention.flashinfer_decode import FlashInferAttention

            self.attention[FAST] = FlashInferAttention(*shared, runner.dtype)
        self.variant = DENSE
        self.rows: list[RowPlan] = []
        self.prefill = Prefill(runner, layers, planner, self.workspace, self.scorings, processors)

    def _pieces(self, processors: int) -> tuple[Pieces, int]:
        """Of passes with slow rows, and partial results of any pass."""
        rows, kv_heads = self.runner.req_to_token_pool.size, self.layers.kv_heads
        tile = self.wide.queries(self.layers.group)
        pieces = Pieces(
            single=launch.MIXED.programs(processors, kv_heads) + rows,
            tiles=REPAIR_ROWS * -(-(REPAIR_TOKENS + 1) // tile),
            tile=tile,
            wave=self.wide.programs(processors, kv_heads),
        )
        return pieces, max(pieces.parts, fast_parts(rows, launch.FAST.programs(processors, kv_heads)))

    # -- which graph ----------------------------------------------------------------------------------------------

    @property
    def capture_labels(self) -> tuple[str, ...]:
        """SGLang's AttentionGraphVariants protocol, with `select`."""
        return (DENSE, *self.attention)

    def select(self, forward_batch: Any) -> str:
        """The graph variant of a batch about to run; called before its metadata is prepared."""
        self.rows = self.planner.rows_for(forward_batch.rids, forward_batch.batch_size)
        steps = {row.step for row in self.rows}
        if steps == {Step.FAST} and self.attention[FAST].fits(sum(map(_visible, self.rows))):
            self.variant = FAST
        elif repairs_of(self.rows):
            self.variant = WIDE
        else:
            self.variant = MIXED if self.planner.sparse else DENSE
        return self.variant

    def shared_read_ends(self, fm: Any) -> Any:
        """Our kernels look slots up in req_to_token to their end; the stock path may have its copy before."""
        sparse = fm.is_decode() and self.planner.sparse
        return SharedReadEnds.POST_REPLAY if sparse else self.stock.shared_read_ends(fm)

    @property
    def pass_rows(self) -> int:
        """Rows that a decode pass has room for: as many as the largest graph, where there are graphs."""
        graphs = self.runner.decode_cuda_graph_runner
        return min(self.limits.graph_rows, graphs.max_bs) if graphs else self.limits.graph_rows

    # -- metadata -------------------------------------------------------------------------------------------------

    def stock_runs(self, forward_batch: Any) -> bool:
        """Does the stock backend serve any layer in this pass?"""
        return not forward_batch.forward_mode.is_decode() or self.variant == DENSE or bool(self.layers.others)

    def init_forward_metadata(self, forward_batch: Any) -> None:
        """Without a graph."""
        decode = forward_batch.forward_mode.is_decode()
        if decode:
            self.select(forward_batch)
        if self.stock_runs(forward_batch):
            self.stock.init_forward_metadata(forward_batch)
        if decode and self.variant != DENSE:
            self._load_rows(forward_batch)

    def init_forward_metadata_out_graph(self, forward_batch: Any, in_capture: bool = False) -> None:
        decode = forward_batch.forward_mode.is_decode()
        if decode and in_capture:
            self.variant = get_capture_attention_variant() or DENSE
        if self.stock_runs(forward_batch):
            self.stock.init_forward_metadata_out_graph(forward_batch, in_capture=in_capture)
        if not decode or self.variant == DENSE:
            return
        if in_capture:
            self.metadata.clear()
            self.attention[self.variant].prepare(forward_batch.batch_size)
        else:
            self._load_rows(forward_batch)

    def init_forward_metadata_in_graph(self, forward_batch: Any) -> None:
        if self.stock_runs(forward_batch):
            self.stock.init_forward_metadata_in_graph(forward_batch)

    def _load_rows(self, forward_batch: Any) -> None:
        self.metadata.clear()
        self.workspace.table.follow_stream()
        for i, row in enumerate(self.rows):
            state = row.state
            if state is not None and row.step is Step.FAST:
                line = state.selection.line if isinstance(state.selection, DeviceSelection) else 0
                self.metadata.fast(i, row.length, state.visible_ends(row.length), line)
                continue
            self.metadata.dense(i, int(forward_batch.seq_lens_cpu[i]))
            if state is not None and row.step is Step.SLOW:
                state.selection = selection = state.selection or self.workspace.table.acquire()
                if selection is None:
                    state.failure = NO_LINE
                if isinstance(selection, DeviceSelection):
                    stages = stage_mask(state.options.selector)
                    self.metadata.refresh(i, state.begin_refresh(row.settled or row.length), selection.line, stages)
        tail = len(self.rows)
        for i, _, repair in repairs_of(self.rows):
            self.metadata.widen(i, tail, repair.positions)
            tail += len(repair.positions)
        self.attention[self.variant].prepare(forward_batch.batch_size)
        if self.planner.blind:
            self.metadata.rows[: len(self.rows), LENGTH] = forward_batch.seq_lens[: len(self.rows)].int()

    # -- attention ------------------------------------------------------------------------------------------------

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, layer: Any, forward_batch: Any, save_kv_cache: bool = True, **kwargs: Any
    ) -> Any:
        """SGLang calls it for every attention layer, or one of the two below (hybrid models)."""
        if forward_batch.forward_mode.is_decode():
            return self.forward_decode(q, k, v, layer, forward_batch, save_kv_cache, **kwargs)
        return self.prefill.run(self.stock.forward, q, k, v, layer, forward_batch, save_kv_cache, kwargs)

    def forward_extend(
        self, q: Tensor, k: Tensor, v: Tensor, layer: Any, forward_batch: Any, save_kv_cache: bool = True, **kwargs: Any
    ) -> Any:
        return self.prefill.run(self.stock.forward_extend, q, k, v, layer, forward_batch, save_kv_cache, kwargs)

    def forward_decode(
        self, q: Tensor, k: Tensor, v: Tensor, layer: Any, forward_batch: Any, save_kv_cache: bool = True, **kwargs: Any
    ) -> Tensor:
        index = self.layers.index.get(layer.layer_id)
        if self.variant == DENSE or index is None:
            out: Tensor = self.stock.forward_decode(q, k, v, layer, forward_batch, save_kv_cache, **kwargs)
            return out
        scoring = self.scorings.of(layer, sinks_of(kwargs))
        attention, new = self.attention[self.variant], None
        if save_kv_cache and k is not None:
            if attention.stores_new and self.plain and self.pool.dtype == k.dtype == v.dtype:
                k, v = (x.view(-1, self.limits.kv_heads, self.limits.dim) for x in (k, v))
                new = NewTokens(k, v, forward_batch.out_cache_loc)
            else:
                where = KVWriteLoc.for_batch(forward_batch)
                self.pool.set_kv_buffer(layer, where, k, v, layer.k_scale, layer.v_scale)
        if index == 0:
            attention.start(forward_batch.req_pool_indices)
        q = q.reshape(-1, self.limits.heads, self.limits.dim)  # a part of q, k and v: a view, no copy
        keys, values = self.pool.get_kv_buffer(layer.layer_id)
        result = attention.run(q, keys, values, index, scoring, new)
        if self.variant != FAST:
            self.workspace.observe(self.metadata, q.shape[0], index)
            if index == self.limits.layers - 1:
                self.workspace.refresh(self.metadata, q.shape[0], self.layers.group)
        return result.view(q.shape[0], -1)


def _visible(row: RowPlan) -> int:
    """Tokens that a fast row sees."""
    assert row.state is not None
    return row.state.visible_tokens(row.length)
