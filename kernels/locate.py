"""KV slots of the selected positions, looked up once a step for all layers."""

import triton
import triton.language as tl
from torch import Tensor

from sfi_sglang.kernels.rows import COLUMNS, COUNT, SELECTION


@triton.jit
def _locate(
    selection, req_to_token, req_pool_indices, rows, slots, stride_selection, stride_tokens, stride_slots, keep,
    COLS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Slots of one row's selected positions in one layer and KV head: where its selection is, there they are."""
    line, row = tl.program_id(0).to(tl.int64), tl.program_id(1)
    rows += row * COLS
    count = tl.load(rows + COUNT)
    request = tl.load(rows + SELECTION).to(tl.int64)
    selection += request * stride_selection + line * keep
    tokens = req_to_token + tl.load(req_pool_indices + row).to(tl.int64) * stride_tokens
    slots += request * stride_slots + line * keep
    for start in range(0, count, BLOCK):
        i = start + tl.arange(0, BLOCK)
        position = tl.load(selection + i, mask=i < count, other=0)
        tl.store(slots + i, tl.load(tokens + position, mask=i < count, other=0), mask=i < count)


def locate(selection: Tensor, req_to_token: Tensor, req_pool_indices: Tensor, rows: Tensor, slots: Tensor) -> None:
    """KV slots of the selected positions of all layers, for this step only: SGLang may move a running request's slots.

    selection: int32 [lines, layers, KV, keep] positions. slots: int32 of the same shape, written.
    """
    _, layers, kv_heads, keep = selection.shape
    _locate[(layers * kv_heads, req_pool_indices.shape[0])](
        selection, req_to_token, req_pool_indices, rows, slots,
        selection.stride(0), req_to_token.stride(0), slots.stride(0), keep,
        COLS=COLUMNS, BLOCK=1024, num_warps=4,
    )  # fmt: skip
