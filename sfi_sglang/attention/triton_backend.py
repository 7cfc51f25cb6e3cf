"""The attention backend `sfi` with Triton kernels under CUDA graphs, beside SGLang's own decode and prefill.

Three graphs per batch size (SGLang's attention graph variants): `dense` is the stock FlashInfer path, for batches with
no sparse row; `fast` attends to selections only, through our kernels or FlashInfer (`--sfi-executor`); `mixed` also has
dense and slow rows and selects anew for the slow ones. The prefill is a stock backend's; after each of its layers we
read the prompt's last queries.
"""

import logging
from typing import Any

import psutil
import torch
from sglang.srt.layers.attention.base_attn_backend import AttentionBackend, SharedReadEnds
from sglang.srt.mem_cache.memory_pool import KVWriteLoc
from sglang.srt.model_executor.runner_utils.capture_mode import get_capture_attention_variant
from sglang.srt.runtime_context import get_parallel
from torch import Tensor

from sfi_sglang import sglang_symbols
from sfi_sglang.api.admission import BACKEND
from sfi_sglang.api.settings import Settings
from sfi_sglang.attention.model_support import STOCK, check_arguments
from sfi_sglang.attention.pass_metadata import PassMetadata
from sfi_sglang.attention.prefill_observer import PrefillObserver
from sfi_sglang.attention.triton_decode import RowAttention, TritonAttention
from sfi_sglang.attention.workspace import Workspace
from sfi_sglang.kernels import launch
from sfi_sglang.kernels.wide import tile_tokens
from sfi_sglang.scheduling.step_planner import REPAIR_ROWS, REPAIR_TOKENS, RowPlan, Step, StepPlanner, repairs_of
from sfi_sglang.selection.limits import Limits
from sfi_sglang.selection.scoring import Scoring
from sfi_sglang.selection.stages import stage_mask
from sfi_sglang.selection.table import NO_LINE, DeviceSelection

logger = logging.getLogger(__name__)
DENSE, FAST, MIXED = "dense", "fast", "mixed"


class SFITritonBackend(AttentionBackend):
    """Decode attention; also the listener of the prefill (`observe_prefill`)."""

    capture_labels = (DENSE, FAST, MIXED)  # SGLang's AttentionGraphVariants protocol, with `select`

    def __init__(self, runner: Any, planner: StepPlanner, settings: Settings) -> None:
        super().__init__()
        if runner.prefill_attention_backend_str == BACKEND:
            raise ValueError("sfi's Triton executor only decodes: give --decode-attention-backend sfi alone")
        self.planner, self.runner = planner, runner
        on_cuda = torch.device(runner.device).type == "cuda"
        self.stock = sglang_symbols.resolve(sglang_symbols.BACKENDS)[STOCK[on_cuda]](runner)  # of dense batches
        self.pool, self.req_to_token = runner.token_to_kv_pool, runner.req_to_token_pool.req_to_token
        self.limits = limits_of(runner, settings)
        free = torch.cuda.mem_get_info()[0] if on_cuda else psutil.virtual_memory().available
        self.workspace = Workspace.allocate(self.limits, runner.device, free)
        logger.info("sfi uses %s", self.limits.statement())
        processors = torch.cuda.get_device_properties(runner.device).multi_processor_count if on_cuda else 1
        self.metadata = self._metadata(processors)
        parts = (self.workspace, self.metadata, self.req_to_token)
        self.attention: dict[str, RowAttention] = {
            FAST: TritonAttention(*parts, launch.FAST, processors, logits_out=False),
            MIXED: TritonAttention(*parts, launch.MIXED, processors, logits_out=True),
        }
        if self.limits.flashinfer:
            from sfi_sglang.attention.flashinfer_decode import FlashInferAttention

            self.attention[FAST] = FlashInferAttention(*parts, runner.dtype)
        self.variant = DENSE
        self.rows: list[RowPlan] = []
        self.prompts = PrefillObserver(self.workspace, self.pool.get_key_buffer, self.req_to_token)
        self.prompts.compile(Scoring(1.0), runner.dtype)

    def _metadata(self, processors: int) -> PassMetadata:
        limits = self.limits
        tile = tile_tokens(limits.heads // limits.kv_heads)
        wide_tiles = REPAIR_ROWS * -(-(REPAIR_TOKENS + 1) // tile)
        return PassMetadata(
            limits.graph_rows,
            limits.evidence_tokens,
            self.req_to_token.device,
            max_pieces=launch.MIXED.waves * processors // limits.kv_heads + limits.graph_rows,
            max_wide_pieces=max(launch.WIDE.waves * processors // limits.kv_heads, 2 * wide_tiles),
            tile=tile,
        )

    # -- which graph ----------------------------------------------------------------------------------------------

    def select(self, forward_batch: Any) -> str:
        """The graph variant of a batch about to run; called before its metadata is prepared."""
        self.rows = self.planner.rows_for(forward_batch.rids, forward_batch.batch_size)
        steps = {row.step for row in self.rows}
        if steps == {Step.FAST} and self.attention[FAST].fits(sum(map(_visible, self.rows))):
            self.variant = FAST
        else:
            self.variant = MIXED if steps & {Step.FAST, Step.SLOW} else DENSE
        return self.variant

    def shared_read_ends(self, fm: Any) -> Any:
        """Our kernels look slots up in req_to_token to their end; the stock path takes its copy first."""
        return SharedReadEnds.POST_REPLAY if self.planner.sparse else self.stock.shared_read_ends(fm)

    @property
    def pass_rows(self) -> int:
        """Rows that a decode pass has room for: as many as the largest graph, where there are graphs."""
        graphs = self.runner.decode_cuda_graph_runner
        return min(self.limits.graph_rows, graphs.max_bs) if graphs else self.limits.graph_rows

    # -- metadata -------------------------------------------------------------------------------------------------

    def init_cuda_graph_state(self, max_bs: int, max_num_tokens: int) -> None:
        self.stock.init_cuda_graph_state(max_bs, max_num_tokens)

    def get_cuda_graph_seq_len_fill_value(self) -> int:
        fill: int = self.stock.get_cuda_graph_seq_len_fill_value()
        return fill

    def init_forward_metadata(self, forward_batch: Any) -> None:
        """Without a graph."""
        if self.select(forward_batch) == DENSE:
            self.stock.init_forward_metadata(forward_batch)
        else:
            self._load_rows(forward_batch)

    def init_forward_metadata_out_graph(self, forward_batch: Any, in_capture: bool = False) -> None:
        if in_capture:
            self.variant = get_capture_attention_variant() or DENSE
        if self.variant == DENSE:
            self.stock.init_forward_metadata_out_graph(forward_batch, in_capture=in_capture)
        elif in_capture:
            self.metadata.clear()
            self.attention[self.variant].prepare(forward_batch.batch_size)
        else:
            self._load_rows(forward_batch)

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
                    self.metadata.refresh(i, state.begin_refresh(row.length), selection.line, stages)
        tail = len(self.rows)
        for i, _, repair in repairs_of(self.rows):
            self.metadata.repair(i, tail, repair.positions)
            tail += len(repair.positions)
        self.attention[self.variant].prepare(forward_batch.batch_size)

    # -- attention ------------------------------------------------------------------------------------------------

    def forward_decode(
        self, q: Tensor, k: Tensor, v: Tensor, layer: Any, forward_batch: Any, save_kv_cache: bool = True, **kwargs: Any
    ) -> Tensor:
        if self.variant == DENSE:
            out: Tensor = self.stock.forward_decode(q, k, v, layer, forward_batch, save_kv_cache, **kwargs)
            return out
        check_arguments(kwargs)
        if save_kv_cache and k is not None:
            self.pool.set_kv_buffer(layer, KVWriteLoc(forward_batch.out_cache_loc, None), k, v)
        attention = self.attention[self.variant]
        if layer.layer_id == 0:
            attention.start(forward_batch.req_pool_indices)
        q = q.contiguous().view(-1, self.limits.heads, self.limits.dim)
        keys, values = self.pool.get_kv_buffer(layer.layer_id)
        result = attention.run(q, keys, values, layer.layer_id, Scoring(layer.scaling))
        if self.variant == MIXED:
            self.workspace.observe(self.metadata, q.shape[0], layer.layer_id)
            if layer.layer_id == self.limits.layers - 1:
                self.workspace.refresh(self.metadata, q.shape[0], self.limits.heads // self.limits.kv_heads)
        return result.view(q.shape[0], -1)

    def observe_prefill(self, q: Tensor, layer: Any, forward_batch: Any) -> None:
        """After a layer of the stock prefill: the keys are in the pool, the queries are at hand."""
        if layer.layer_id == 0:
            rows = self.planner.rows_for(forward_batch.rids, forward_batch.batch_size)
            self.prompts.begin(rows, forward_batch.extend_seq_lens_cpu)
        self.prompts.observe(q.view(-1, self.limits.heads, self.limits.dim), layer.layer_id, Scoring(layer.scaling))


def _visible(row: RowPlan) -> int:
    """Tokens that a fast row sees."""
    assert row.state is not None
    return row.state.visible_tokens(row.length)


def limits_of(runner: Any, settings: Settings) -> Limits:
    """
    Raises:
        ValueError: FlashInfer cannot number so many slots.
    """
    model = runner.model_config
    keys = runner.token_to_kv_pool.get_key_buffer(0)  # [slots, KV heads of this rank, D]
    kv_heads, dim = keys.shape[1:]
    heads = model.num_attention_heads // get_parallel().attn_tp_size
    flashinfer = settings.resolved_executor() == "flashinfer"
    if flashinfer and keys.shape[0] * kv_heads > torch.iinfo(torch.int32).max:
        raise ValueError(f"{keys.shape[0]} KV slots are too many for --sfi-executor flashinfer: use triton")
    return Limits(
        model.num_hidden_layers,
        heads,
        kv_heads,
        dim,
        requests=runner.max_running_requests,
        graph_rows=runner.req_to_token_pool.size,
        budget=settings.max_budget,
        context=model.context_len,
        store_bytes=settings.store_bytes,
        flashinfer=flashinfer,
    )
