"""Page numbers of the visible tokens for FlashInfer; a page is one KV head of one slot, slot * KV heads + head."""

import triton
import triton.language as tl
from torch import Tensor

from sfi_sglang.kernels.rows import COLUMNS, COUNT, LENGTH, RECENT, SELECTION, SINK


@triton.jit
def _pack(
    selection, req_to_token, req_pool_indices, rows, indptr, pages, stride_selection, stride_tokens, stride_pages, keep,
    KV: tl.constexpr, COLS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Pages of one row in one layer and KV head: sink, selected, recent."""
    line, row = tl.program_id(0).to(tl.int64), tl.program_id(1)
    layer, head = line // KV, (line % KV).to(tl.int32)
    rows += row * COLS
    sink, count, recent = tl.load(rows + SINK), tl.load(rows + COUNT), tl.load(rows + RECENT)
    visible = sink + count + tl.load(rows + LENGTH) - recent
    selection += tl.load(rows + SELECTION).to(tl.int64) * stride_selection + line * keep
    tokens = req_to_token + tl.load(req_pool_indices + row).to(tl.int64) * stride_tokens
    pages += layer * stride_pages + tl.load(indptr + row * KV + head)
    for start in range(0, visible, BLOCK):
        i = start + tl.arange(0, BLOCK)
        inside = i < visible
        chosen = (i >= sink) & (i < sink + count)
        position = tl.where(i < sink, i, i - sink - count + recent)
        selected = tl.load(selection + i - sink, mask=inside & chosen, other=0)
        slot = tl.load(tokens + tl.where(chosen, selected, position), mask=inside, other=0)
        tl.store(pages + i, slot * KV + head, mask=inside)


def pack(
    selection: Tensor, req_to_token: Tensor, req_pool_indices: Tensor, rows: Tensor, indptr: Tensor, pages: Tensor
) -> None:
    """Write the pages of all layers, KV heads and rows, for this step only: SGLang may move a running request's slots.

    selection: int32 [lines, layers, KV, keep] positions. req_to_token: int32 [pool rows, tokens]. req_pool_indices:
    integer [rows]. rows: int32 [at least rows, COLUMNS] (rows.py). indptr: int32 [rows * KV + 1], where in a layer the
    pages of each row and head start. pages: int32 [layers, n], written; indptr ends at n at most.
    """
    _, layers, kv_heads, keep = selection.shape
    _pack[(layers * kv_heads, req_pool_indices.shape[0])](
        selection, req_to_token, req_pool_indices, rows, indptr, pages,
        selection.stride(0), req_to_token.stride(0), pages.stride(0), keep,
        KV=kv_heads, COLS=COLUMNS, BLOCK=1024, num_warps=4,
    )  # fmt: skip
