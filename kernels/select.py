"""The k best candidates of every layer and KV head of every slow row, in ascending order, in one launch.

A sample of a long line of scores gives a bar that a little more than k of them should reach; one scan keeps those, and
an exact radix select finds the k-th among the kept. Of scores that equal the bar about k are kept at most: they may be
masses, and then the bar itself is the k-th. If the sample misled, the radix select runs over the whole line. Of equal
scores the earlier position wins, so the choice repeats bit for bit.
"""

import triton
import triton.language as tl
from torch import Tensor

from sfi_sglang.kernels.rows import CANDIDATES, COLUMNS, EVIDENCE_AT, FIRST, KEEP, NMS, SELECTION, SPAN, STAGES

SAMPLE = 2048
BLOCK, WARPS = 2048, 4  # scores an iteration
LOWEST = tl.constexpr(-3.0e38)


@triton.jit
def _sortable(x):
    """float32 -> uint32 in the same order."""
    bits = x.to(tl.uint32, bitcast=True)
    return tl.where(bits >> 31 != 0, bits ^ 0xFFFFFFFF, bits | 0x80000000)


@triton.jit
def _kth(scores, n, stride, k, BLOCK: tl.constexpr):
    """Radix select: the key of the k-th best of scores[0], scores[stride], ... (n of them), and how many of the scores
    with this very key belong to the k best."""
    left = k
    prefix = tl.zeros([], tl.uint32)
    bins = tl.arange(0, 256)
    for step in tl.static_range(4):
        shift = 24 - 8 * step
        counts = tl.zeros([256], tl.int32)
        for start in range(0, n, BLOCK):
            i = start + tl.arange(0, BLOCK)
            key = _sortable(tl.load(scores + i * stride, mask=i < n, other=0.0))
            live = i < n
            if step > 0:
                live = live & ((key >> (shift + 8)) == prefix)
            counts += tl.histogram(((key >> shift) & 255).to(tl.int32), 256, mask=live)
        at_least = tl.sum(counts, 0) - tl.cumsum(counts, 0) + counts  # keys in this bin or a higher one
        chosen = tl.max(tl.where(at_least >= left, bins, 0), 0)
        left -= tl.sum(tl.where(bins > chosen, counts, 0), 0)
        prefix = (prefix << 8) | chosen.to(tl.uint32)
    return prefix, left


@triton.jit
def _select(
    scores, rows, refresh_rows, selection, stride_buffer, stride_layer, stride_head, stride_selection, keep_columns,
    KV: tl.constexpr, COLS: tl.constexpr, BLOCK: tl.constexpr, SAMPLED: tl.constexpr,
):  # fmt: skip
    head, layer = tl.program_id(0) % KV, tl.program_id(0) // KV
    row = tl.load(refresh_rows + tl.program_id(1))
    if row < 0:
        return
    rows += row * COLS
    n, first = tl.load(rows + CANDIDATES), tl.load(rows + FIRST)
    keep = tl.minimum(tl.load(rows + KEEP), n)
    stages = tl.load(rows + STAGES)
    buffer = ((stages & NMS) // NMS) ^ ((stages & SPAN) // SPAN)  # where stages.py left the scores
    line = scores + layer.to(tl.int64) * stride_layer + head.to(tl.int64) * stride_head + tl.load(rows + EVIDENCE_AT)
    spare = line + (1 - buffer).to(tl.int64) * stride_buffer  # the other buffer: kept scores, then their indices
    line += buffer.to(tl.int64) * stride_buffer
    room = n // 2
    target = selection + tl.load(rows + SELECTION).to(tl.int64) * stride_selection
    target += tl.program_id(0).to(tl.int64) * keep_columns
    kept, above = 0, 0  # scores that are kept, that exceed the bar
    bar = tl.zeros([], tl.uint32)
    if n >= 2 * SAMPLED:
        expected = keep.to(tl.float32) / n * SAMPLED
        rank = tl.minimum((expected + 4.0 * tl.sqrt(expected) + 8.0).to(tl.int32), SAMPLED)
        bar, _ = _kth(line, SAMPLED, n // SAMPLED, rank, SAMPLED)
        for start in range(0, n, BLOCK):
            i = start + tl.arange(0, BLOCK)
            value = tl.load(line + i, mask=i < n, other=LOWEST)
            key = _sortable(value)
            passes = ((key > bar) | ((key == bar) & (kept - above < keep))) & (i < n)
            slot = kept + tl.cumsum(passes.to(tl.int32), 0) - 1
            tl.store(spare + slot, value, mask=passes & (slot < room))
            tl.store(spare + room + slot, i.to(tl.float32, bitcast=True), mask=passes & (slot < room))
            kept += tl.sum(passes.to(tl.int32), 0)
            above += tl.sum(((key > bar) & (i < n)).to(tl.int32), 0)
        tl.debug_barrier()  # other threads of this program read what was stored
    narrowed = (kept >= keep) & (kept <= room)
    count = tl.where(narrowed, kept, n)
    source = line
    if narrowed:
        source = spare
    kth, left = bar, keep - above
    if (above >= keep) | (kept < keep):
        kth, left = _kth(source, count, 1, keep, BLOCK)
    written = 0
    equal = 0
    for start in range(0, count, BLOCK):
        i = start + tl.arange(0, BLOCK)
        key = _sortable(tl.load(source + i, mask=i < count, other=LOWEST))
        same = ((key == kth) & (i < count)).to(tl.int32)
        rank = equal + tl.cumsum(same, 0)
        take = ((key > kth) & (i < count)) | ((same != 0) & (rank <= left))
        slot = written + tl.cumsum(take.to(tl.int32), 0) - 1
        index = tl.load(source + room + i, mask=take & narrowed, other=0.0).to(tl.int32, bitcast=True)
        tl.store(target + slot, first + tl.where(narrowed, index, i), mask=take)
        written += tl.sum(take.to(tl.int32), 0)
        equal += tl.sum(same, 0)


def select(scores: Tensor, rows: Tensor, refresh_rows: Tensor, selection: Tensor) -> None:
    """Write the positions of each slow row's best candidates into its line of `selection`.

    scores: float32 [2, layers, KV, T], as stages.py leaves them; the other buffer is overwritten. rows: int32 [rows,
    COLUMNS]. refresh_rows: int32 [n], -1 for none. selection: int32 [lines, layers, KV, keep]; min(KEEP, CANDIDATES)
    entries of each line are written.
    """
    _, layers, kv_heads, _ = scores.shape
    buffer, layer, head, _ = scores.stride()
    _select[(layers * kv_heads, refresh_rows.shape[0])](
        scores, rows, refresh_rows, selection, buffer, layer, head, selection.stride(0), selection.shape[-1],
        KV=kv_heads, COLS=COLUMNS, BLOCK=BLOCK, SAMPLED=SAMPLE, num_warps=WARPS,
    )  # fmt: skip
