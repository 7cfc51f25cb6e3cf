"""Device memory of the Triton executor: fixed at start, stated there, and refused if it does not fit."""

from dataclasses import dataclass
from typing import Any

import psutil
import torch
import torch.distributed as dist
from sglang.srt.runtime_context import get_parallel
from torch import Tensor

from sfi_sglang.api.settings import Settings
from sfi_sglang.attention.layers import CoveredLayers
from sfi_sglang.attention.pass_metadata import PassMetadata
from sfi_sglang.kernels import select, stages
from sfi_sglang.kernels.coverage import record
from sfi_sglang.kernels.decode import DecodeBuffers
from sfi_sglang.kernels.evidence import merge_logits
from sfi_sglang.selection.limits import MB, Limits
from sfi_sglang.selection.table import SelectionTable


@dataclass(frozen=True)
class Workspace:
    """limits: what it was made for.
    table: the running requests' selections.
    scores: float32 [2, layers, KV, T], see kernels/stages.py.
    buffers: partial results of the attention.
    mass: float32 [graph rows, layers, KV, 2], coverage and recall of the slow rows of a pass.
    """

    limits: Limits
    table: SelectionTable
    scores: Tensor
    buffers: DecodeBuffers
    mass: Tensor

    @classmethod
    def allocate(cls, limits: Limits, device: torch.device | str, free_bytes: int) -> "Workspace":
        """
        Raises:
            RuntimeError: it does not fit into `free_bytes`; the message has the numbers.
        """
        if limits.total_bytes > free_bytes:
            raise RuntimeError(
                f"sfi needs {limits.statement()}, but only {free_bytes / MB:.0f} MB are free. Lower "
                "--mem-fraction-static, --max-running-requests, --sfi-max-budget or --context-length."
            )
        scores = torch.zeros(2, limits.layers, limits.kv_heads, limits.evidence_tokens, device=device)
        buffers = DecodeBuffers.allocate(
            limits.graph_rows, limits.heads, limits.kv_heads, limits.dim, limits.parts, limits.evidence_tokens, device
        )
        mass = torch.empty(limits.graph_rows, limits.layers, limits.kv_heads, 2, device=device)
        return cls(limits, SelectionTable(limits, device), scores, buffers, mass)

    def observe(self, metadata: PassMetadata, rows: int, layer: int) -> None:
        """Evidence and coverage of the slow ones among the first `rows` rows, in one layer whose attention has just
        run."""
        slow, selection = metadata.refresh_rows[:rows], self.table.positions[:, layer]
        scores, mass = self.scores[0, layer], self.mass[:, layer]
        merge_logits(self.buffers, metadata.rows, metadata.page_to_row, slow, selection, scores, mass)
        if layer == self.limits.layers - 1:
            record(self.mass, metadata.rows, slow, self.table.coverage)

    def refresh(self, metadata: PassMetadata, rows: int, evidence_rows: int) -> None:
        """Select for the slow ones among the first `rows` rows, all layers at once; `evidence_rows` queries were merged
        per KV head."""
        slow = metadata.refresh_rows[:rows]
        stages.apply(self.scores, metadata.rows, slow, metadata.page_to_row, evidence_rows)
        select.select(self.scores, metadata.rows, slow, self.table.positions)


def free_bytes(device: torch.device | str) -> int:
    """Of the rank that has least: all ranks must take the same requests."""
    on_cuda = torch.device(device).type == "cuda"
    free = torch.cuda.mem_get_info()[0] if on_cuda else psutil.virtual_memory().available
    if not dist.is_initialized() or get_parallel().tp_size == 1:
        return free
    least = torch.tensor(free)
    dist.all_reduce(least, dist.ReduceOp.MIN, group=get_parallel().tp_group.cpu_group)
    return int(least)


def limits_of(runner: Any, layers: CoveredLayers, settings: Settings, free: int, parts: int) -> Limits:
    """free: bytes; where they do not hold a selection for every request that may run, fewer can have SFI at once.
    parts: see Limits.

    Raises:
        ValueError: FlashInfer cannot number so many slots.
    """
    model = runner.model_config
    slots = runner.token_to_kv_pool.get_key_buffer(layers.ids[0]).shape[0]
    flashinfer = settings.resolved_executor() == "flashinfer"
    if flashinfer and slots * layers.kv_heads > torch.iinfo(torch.int32).max:
        raise ValueError(f"{slots} KV slots are too many for --sfi-executor flashinfer: use triton")
    wanted = Limits(
        len(layers.ids),
        layers.heads,
        layers.kv_heads,
        layers.dim,
        requests=runner.max_running_requests,
        graph_rows=runner.req_to_token_pool.size,
        budget=settings.max_budget,
        context=model.context_len,
        parts=parts,
        store_bytes=settings.store_bytes,
        flashinfer=flashinfer,
    )
    return wanted.within(free)
