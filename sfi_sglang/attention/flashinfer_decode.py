"""Decode attention of fast passes through FlashInfer's paged decode wrapper: every KV head is a row of its own.

A page is one KV head of one slot, so that the rows of a batch read different tokens for each KV head: batch rows * KV,
one KV head, G query heads, page size 1. The plan depends on lengths alone, and those are the same in all layers: one
plan serves a pass, only the page numbers change from layer to layer.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from sfi_sglang.attention.pass_metadata import PassMetadata
from sfi_sglang.attention.workspace import Workspace
from sfi_sglang.kernels.new_tokens import NewTokens
from sfi_sglang.kernels.pack import pack
from sfi_sglang.selection.limits import FLASHINFER_FLOATS, FLASHINFER_INTS
from sfi_sglang.selection.scoring import Scoring

PAGES = "_paged_kv_indices_buf"  # of a wrapper: the page numbers its next `run` reads; FlashInfer has no setter


def indptr_of(visible: np.ndarray, kv_heads: int) -> np.ndarray:
    """Where the pages of each row and KV head start in a layer: int32 [rows * KV + 1], from visible tokens [rows]."""
    return np.concatenate([[0], np.repeat(visible, kv_heads).cumsum()]).astype(np.int32)


class FlashInferAttention:
    """A RowAttention (triton_decode.py) for fast rows only, for passes up to `Limits.page_room` tokens.

    There is a wrapper for each batch size, made when the first graph or pass of that size is prepared, with 1 MB of
    pinned host memory. All share the workspaces and the buffers that a plan fills: passes follow each other on one
    stream, and each plans anew.
    """

    stores_new = False

    def __init__(self, workspace: Workspace, metadata: PassMetadata, req_to_token: Tensor, dtype: torch.dtype) -> None:
        """
        dtype: of queries, keys and values.

        Raises:
            RuntimeError: this FlashInfer has no place for page numbers where we know it.
        """
        self.workspace, self.metadata, self.req_to_token, self.dtype = workspace, metadata, req_to_token, dtype
        limits, device = workspace.limits, req_to_token.device
        lines = limits.graph_rows * limits.kv_heads
        self.pages = torch.zeros(limits.layers, limits.layer_pages, dtype=torch.int32, device=device)
        self.indptr = torch.zeros(lines + 1, dtype=torch.int32, device=device)
        self.last_page = torch.ones(lines, dtype=torch.int32, device=device)
        self.last_page_host = torch.ones(lines, dtype=torch.int32).pin_memory()
        self.floats = torch.zeros(FLASHINFER_FLOATS, dtype=torch.uint8, device=device)
        self.ints = torch.zeros(FLASHINFER_INTS, dtype=torch.uint8, device=device)
        self.wrappers: dict[int, Any] = {}  # rows -> wrapper: the batch size of one under CUDA graphs is fixed
        self.planned = torch.cuda.Event()
        self.prepare(limits.graph_rows)  # compiles FlashInfer's kernel now, and the workspaces turn out large enough

    def fits(self, tokens: int) -> bool:
        return tokens <= self.workspace.limits.page_room

    def prepare(self, rows: int) -> None:
        self.metadata.load()
        limits = self.workspace.limits
        self.wrapper = self.wrappers.get(rows) or self._add_wrapper(rows)
        lines = rows * limits.kv_heads
        indptr = torch.from_numpy(indptr_of(self.metadata.visible[:rows], limits.kv_heads))
        assert indptr[-1] <= self.pages.shape[1], "the pass does not fit"
        # A plan writes the wrapper's pinned memory and copies it to the device in stream order, so the last copy has to
        # be over. It is but for the wait: the pass that it queued behind has returned its tokens.
        self.planned.synchronize()
        self.wrapper.plan(
            indptr.pin_memory(),
            self.pages[0, :0],  # `pack` writes them
            self.last_page_host[:lines],
            limits.heads // limits.kv_heads,
            1,
            limits.dim,
            1,
            q_data_type=self.dtype,
            kv_data_type=self.dtype,
            sm_scale=1.0,  # `run` multiplies it by the layer's scale
        )
        self.planned.record()

    def _add_wrapper(self, rows: int) -> Any:
        from flashinfer import BatchDecodeWithPagedKVCacheWrapper

        lines, first = rows * self.workspace.limits.kv_heads, self.pages[0]
        wrapper = BatchDecodeWithPagedKVCacheWrapper(
            self.floats,
            "NHD",
            use_cuda_graph=True,  # buffers at fixed places; right without a graph too
            use_tensor_cores=True,
            paged_kv_indptr_buffer=self.indptr[: lines + 1],
            paged_kv_indices_buffer=first,
            paged_kv_last_page_len_buffer=self.last_page[:lines],
            backend="fa2",
        )
        if getattr(wrapper, PAGES, None) is not first:
            raise RuntimeError(f"this FlashInfer's decode wrapper has no {PAGES}: use --sfi-executor triton")
        wrapper.reset_workspace_buffer(self.floats, self.ints)
        self.wrappers[rows] = wrapper
        return wrapper

    def start(self, req_pool_indices: Tensor) -> None:
        positions = self.workspace.table.positions
        pack(positions, self.req_to_token, req_pool_indices, self.metadata.rows, self.indptr, self.pages)

    def run(
        self, q: Tensor, keys: Tensor, values: Tensor, layer: int, scoring: Scoring, new: NewTokens | None = None
    ) -> Tensor:
        """
        Raises:
            ValueError: the layer does more than scale its logits.
        """
        if not scoring.bare:
            raise ValueError(
                f"layer {layer} caps its attention logits, has sinks or FP8 scales: use --sfi-executor triton"
            )
        limits = self.workspace.limits
        setattr(self.wrapper, PAGES, self.pages[layer])
        per_head = q.reshape(-1, limits.heads // limits.kv_heads, limits.dim)
        pages = tuple(pool.view(-1, 1, 1, limits.dim) for pool in (keys, values))
        out: Tensor = self.wrapper.run(per_head, pages, q_scale=scoring.scale)
        return out.view(q.shape)
