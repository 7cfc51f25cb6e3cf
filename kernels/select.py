"""The k best candidates of every layer and KV head of every slow row, in ascending order, in one launch.

Radix select: four passes over the scores find the k-th key byte by byte from histograms; a fifth writes the chosen
positions. Of equal scores the earlier position wins, so the choice repeats bit for bit.
"""

import triton
import triton.language as tl
from torch import Tensor

from sfi_sglang.kernels.rows import CANDIDATES, COLUMNS, FIRST, KEEP, MEMORY, NMS, SPAN, STAGES, TAP


@triton.jit
def _sortable(x):
    """float32 -> uint32 in the same order."""
    bits = x.to(tl.uint32, bitcast=True)
    return tl.where(bits >> 31 != 0, bits ^ 0xFFFFFFFF, bits | 0x80000000)


@triton.jit
def _select(
    scores, rows, slow_rows, memory, stride_buffer, stride_layer, stride_head, stride_memory, keep_columns,
    KV: tl.constexpr, COLS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    head, layer = tl.program_id(0) % KV, tl.program_id(0) // KV
    row = tl.load(slow_rows + tl.program_id(1))
    if row < 0:
        return
    rows += row * COLS
    n, keep, first = tl.load(rows + CANDIDATES), tl.load(rows + KEEP), tl.load(rows + FIRST)
    stages = tl.load(rows + STAGES)
    buffer = ((stages & NMS) // NMS) ^ ((stages & SPAN) // SPAN)  # where stages.py left the scores
    scores += buffer.to(tl.int64) * stride_buffer + layer.to(tl.int64) * stride_layer + head.to(tl.int64) * stride_head
    scores += tl.load(rows + TAP)
    target = memory + tl.load(rows + MEMORY).to(tl.int64) * stride_memory + tl.program_id(0).to(tl.int64) * keep_columns
    keep = tl.minimum(keep, n)
    left = keep  # still to take among the keys that share `prefix`
    prefix = tl.zeros([], tl.uint32)
    bins = tl.arange(0, 256)
    for step in tl.static_range(4):
        shift = 24 - 8 * step
        counts = tl.zeros([256], tl.int32)
        for start in range(0, n, BLOCK):
            i = start + tl.arange(0, BLOCK)
            key = _sortable(tl.load(scores + i, mask=i < n, other=0.0))
            live = i < n
            if step > 0:
                live = live & ((key >> (shift + 8)) == prefix)
            counts += tl.histogram(((key >> shift) & 255).to(tl.int32), 256, mask=live)
        at_least = tl.sum(counts, 0) - tl.cumsum(counts, 0) + counts  # keys in this bin or a higher one
        chosen = tl.max(tl.where(at_least >= left, bins, 0), 0)
        left -= tl.sum(tl.where(bins > chosen, counts, 0), 0)
        prefix = (prefix << 8) | chosen.to(tl.uint32)
    written = tl.zeros([], tl.int32)
    equal = tl.zeros([], tl.int32)
    for start in range(0, n, BLOCK):
        i = start + tl.arange(0, BLOCK)
        key = _sortable(tl.load(scores + i, mask=i < n, other=0.0))
        same = ((key == prefix) & (i < n)).to(tl.int32)
        rank = equal + tl.cumsum(same, 0)
        take = ((key > prefix) & (i < n)) | ((same != 0) & (rank <= left))
        slot = written + tl.cumsum(take.to(tl.int32), 0) - 1
        tl.store(target + slot, first + i, mask=take)
        written += tl.sum(take.to(tl.int32), 0)
        equal += tl.sum(same, 0)


def select(scores: Tensor, rows: Tensor, slow_rows: Tensor, memory: Tensor) -> None:
    """Write the positions of each slow row's best candidates into its line of `memory`.

    scores: float32 [2, layers, KV, T], as stages.py leaves them. rows: int32 [rows, COLUMNS]. slow_rows: int32 [n], -1
    for none. memory: int32 [memory rows, layers, KV, keep]; min(KEEP, CANDIDATES) entries of each line are written.
    """
    _, layers, kv_heads, _ = scores.shape
    buffer, layer, head, _ = scores.stride()
    _select[(layers * kv_heads, slow_rows.shape[0])](
        scores, rows, slow_rows, memory, buffer, layer, head, memory.stride(0), memory.shape[-1],
        KV=kv_heads, COLS=COLUMNS, BLOCK=2048, num_warps=8,
    )  # fmt: skip
