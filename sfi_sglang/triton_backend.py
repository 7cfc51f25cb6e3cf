"""The attention backend `sfi` with Triton kernels under CUDA graphs, beside SGLang's own decode and prefill.

Three graphs per batch size (SGLang's attention graph variants): `dense` is the stock FlashInfer path, for batches with
no sparse row; `fast` attends to memories only, through our kernels or FlashInfer (`--sfi-executor`); `mixed` also has
dense and slow rows and refreshes the memories of the slow ones. The prefill is a stock backend's; after each of its
layers we read the prompt's last queries.
"""

import logging

import psutil
import torch
from sglang.srt.layers.attention.base_attn_backend import AttentionBackend, SharedReadEnds
from sglang.srt.mem_cache.memory_pool import KVWriteLoc
from sglang.srt.model_executor.runner_utils.capture_mode import get_capture_attention_variant
from sglang.srt.runtime_context import get_parallel
from torch import Tensor

from sfi_sglang import config, doors, hooks
from sfi_sglang.device_memory import DeviceMemory, Shape
from sfi_sglang.kernels import launch
from sfi_sglang.plan import Planner, Row, Step
from sfi_sglang.prompt import PromptObserver
from sfi_sglang.row_table import RowTable, fast_tokens
from sfi_sglang.triton_attention import RowAttention, TritonAttention

logger = logging.getLogger(__name__)
STOCK_CUDA, STOCK_CPU = "flashinfer", "torch_native"  # decode of batches without a sparse row
DENSE, FAST, MIXED = "dense", "fast", "mixed"
# What the kernels cover:
HEAD_DIMS, MAX_GROUP, DTYPES = (64, 128, 256), 16, (torch.bfloat16, torch.float16)


class SFITritonBackend(AttentionBackend):
    """Decode attention; also the listener of the prefill (`observe_prefill`)."""

    capture_labels = (DENSE, FAST, MIXED)  # SGLang's AttentionGraphVariants protocol, with `select`

    def __init__(self, runner, planner: Planner):
        super().__init__()
        if runner.prefill_attention_backend_str == doors.BACKEND:
            raise ValueError("sfi's Triton executor only decodes: give --decode-attention-backend sfi alone")
        self.planner = planner
        on_cuda = torch.device(runner.device).type == "cuda"
        self.stock = hooks.resolve(hooks.BACKENDS)[STOCK_CUDA if on_cuda else STOCK_CPU](runner)
        self.pool, self.req_to_token = runner.token_to_kv_pool, runner.req_to_token_pool.req_to_token
        self.shape = _shape(runner)
        free = torch.cuda.mem_get_info()[0] if on_cuda else psutil.virtual_memory().available
        self.memory = DeviceMemory.allocate(self.shape, runner.device, free)
        logger.info("sfi uses %s", self.shape.statement())
        processors = torch.cuda.get_device_properties(runner.device).multi_processor_count if on_cuda else 1
        self.table = RowTable(self.shape.graph_rows, self.shape.evidence_tokens, runner.device)
        parts = (self.memory, self.table, self.req_to_token)
        self.attention: dict[str, RowAttention] = {
            FAST: TritonAttention(*parts, launch.FAST, processors, tap=False),
            MIXED: TritonAttention(*parts, launch.MIXED, processors, tap=True),
        }
        if self.shape.flashinfer:
            from sfi_sglang.flashinfer_attention import FlashInferAttention

            self.attention[FAST] = FlashInferAttention(*parts, runner.dtype)
        self.variant = DENSE
        self.rows: list[Row] = []
        self.prompts = PromptObserver(self)
        self.prompts.compile()
        planner.evidence_tokens = self.shape.evidence_tokens
        _current[:] = [self]

    # -- which graph ----------------------------------------------------------------------------------------------

    def select(self, forward_batch) -> str:
        """The graph variant of a batch about to run; called before its metadata is prepared."""
        self.rows = self.planner.rows_for(forward_batch.rids, forward_batch.batch_size)
        steps = {row.step for row in self.rows}
        if steps == {Step.FAST} and self.attention[FAST].fits(sum(map(_visible, self.rows))):
            self.variant = FAST
        else:
            self.variant = MIXED if steps & {Step.FAST, Step.SLOW} else DENSE
        return self.variant

    def shared_read_ends(self, fm):
        """Our kernels look slots up in req_to_token to their end; the stock path takes its copy first."""
        return SharedReadEnds.POST_REPLAY if self.planner.sparse else self.stock.shared_read_ends(fm)

    # -- metadata -------------------------------------------------------------------------------------------------

    def init_cuda_graph_state(self, max_bs: int, max_num_tokens: int) -> None:
        self.stock.init_cuda_graph_state(max_bs, max_num_tokens)

    def get_cuda_graph_seq_len_fill_value(self) -> int:
        return self.stock.get_cuda_graph_seq_len_fill_value()

    def init_forward_metadata(self, forward_batch) -> None:
        """Without a graph."""
        if self.select(forward_batch) == DENSE:
            self.stock.init_forward_metadata(forward_batch)
        else:
            self._load_rows(forward_batch)

    def init_forward_metadata_out_graph(self, forward_batch, in_capture: bool = False) -> None:
        if in_capture:
            self.variant = get_capture_attention_variant() or DENSE
        if self.variant == DENSE:
            self.stock.init_forward_metadata_out_graph(forward_batch, in_capture=in_capture)
        elif in_capture:
            self.table.clear()
            self.attention[self.variant].prepare(forward_batch.batch_size)
        else:
            self._load_rows(forward_batch)

    def _load_rows(self, forward_batch) -> None:
        self.table.clear()
        self.memory.table.follow_stream()
        for i, row in enumerate(self.rows):
            state = row.state
            if state is not None and row.step is Step.FAST:
                self.table.fast(i, row.length, state.options, state.memory)
                continue
            self.table.dense(i, int(forward_batch.seq_lens_cpu[i]))
            if state is not None and row.step is Step.SLOW:
                state.memory = state.memory or self.memory.table.acquire()
                if state.memory is not None:
                    self.table.slow_row(i, row.length, state.options, state.memory)
        self.attention[self.variant].prepare(forward_batch.batch_size)

    # -- attention ------------------------------------------------------------------------------------------------

    def forward_decode(self, q, k, v, layer, forward_batch, save_kv_cache=True, **kwargs) -> Tensor:
        if self.variant == DENSE:
            return self.stock.forward_decode(q, k, v, layer, forward_batch, save_kv_cache, **kwargs)
        if save_kv_cache and k is not None:
            self.pool.set_kv_buffer(layer, KVWriteLoc(forward_batch.out_cache_loc, None), k, v)
        attention = self.attention[self.variant]
        if layer.layer_id == 0:
            attention.start(forward_batch.req_pool_indices)
        q = q.contiguous().view(-1, self.shape.heads, self.shape.dim)
        keys, values = self.pool.get_kv_buffer(layer.layer_id)
        out = attention.run(q, keys, values, layer.layer_id, layer.scaling)
        if self.variant == MIXED:
            self.memory.observe(self.table, q.shape[0], layer.layer_id)
            if layer.layer_id == self.shape.layers - 1:
                self.memory.refresh(self.table, q.shape[0], self.shape.heads // self.shape.kv_heads)
        return out.view(q.shape[0], -1)


def _visible(row: Row) -> int:
    """Tokens that a fast row sees."""
    assert row.state is not None
    return fast_tokens(row.length, row.state.options, row.state.memory)


_current: list[SFITritonBackend] = []  # of this process; found by the two hooks below


def graph_variants(original, hf_config):
    """AROUND create_attention_graph_variants: our three graphs if the decode backend is ours."""
    return _current[0] if _current else original(hf_config)


def observe_prefill(result, hybrid, *args, **kwargs):
    """AFTER HybridAttnBackend.forward: the keys are in the pool, the queries are at hand."""
    backend = hybrid.decode_backend
    if isinstance(backend, SFITritonBackend):
        batch = kwargs["forward_batch"] if "forward_batch" in kwargs else args[4]
        if batch.forward_mode.is_extend():
            q, layer = (kwargs.get(name, args[i] if i < len(args) else None) for i, name in ((0, "q"), (3, "layer")))
            backend.prompts.observe(q, layer, batch)


def _shape(runner) -> Shape:
    """
    Raises:
        ValueError: the kernels do not cover this model.
    """
    model = runner.model_config
    keys = runner.token_to_kv_pool.get_key_buffer(0)  # [slots, KV heads of this rank, D]
    kv_heads, dim = keys.shape[1:]
    heads = model.num_attention_heads // get_parallel().attn_tp_size
    group = heads // kv_heads  # with more ranks than KV heads each rank has a copy of one and a part of its query heads
    if dim not in HEAD_DIMS or group > MAX_GROUP or (keys.is_cuda and keys.dtype not in DTYPES):
        raise ValueError(
            f"sfi's kernels cover head dims {HEAD_DIMS}, up to {MAX_GROUP} query heads per KV head, bf16 or fp16 KV; "
            f"this model has {dim}, {group} and {keys.dtype}: use --sfi-executor torch"
        )
    limits = {"budget": config.max_budget(), "context": model.context_len, "store_bytes": config.memory_bytes()}
    flashinfer = config.executor() == "flashinfer"
    if flashinfer and keys.shape[0] * kv_heads > torch.iinfo(torch.int32).max:
        raise ValueError(f"{keys.shape[0]} KV slots are too many for --sfi-executor flashinfer: use triton")
    limits |= {"requests": runner.max_running_requests, "graph_rows": runner.req_to_token_pool.size}
    return Shape(model.num_hidden_layers, heads, kv_heads, dim, **limits, flashinfer=flashinfer)
