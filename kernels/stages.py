"""The Selector's stages between evidence and top-k, for all layers and heads of all slow rows: one launch per stage.

Scores live in two buffers [2, layers, KV, T]: windowed stages read one and write the other, the rest work in place; a
row's stages say where its scores are. References: `fuse`, `suppress`, `exclude` and `span` of selection/stages.py.
"""

import triton
import triton.language as tl
from torch import Tensor

from sfi_sglang.api.options import EVIDENCE_PAGE
from sfi_sglang.kernels.decode import EMPTY
from sfi_sglang.kernels.evidence import LN2
from sfi_sglang.kernels.rows import CANDIDATES, COLUMNS, EVIDENCE_AT, EXCLUSION, NMS, PRIOR, SPAN, STAGES
from sfi_sglang.kernels.scores import LOG2E
from sfi_sglang.selection import stages as reference

NMS_RADIUS = tl.constexpr(reference.NMS_RADIUS)
NMS_STRENGTH = tl.constexpr(reference.NMS_STRENGTH)
SPAN_BEHIND, WIDTH_BIT = tl.constexpr(reference.SPAN_BEHIND), tl.constexpr(reference.WIDTH_BIT)
STRENGTH, TEMPERATURE = tl.constexpr(reference.EXCLUSION_STRENGTH), tl.constexpr(reference.EXCLUSION_TEMPERATURE)
PRIOR_WEIGHT, PRIOR_POWER = tl.constexpr(reference.PRIOR_WEIGHT), tl.constexpr(reference.PRIOR_POWER)
PRIOR_ETA, PRIOR_BETA = tl.constexpr(reference.PRIOR_ETA), tl.constexpr(reference.PRIOR_BETA)
TINY = tl.constexpr(reference.TINY)


@triton.jit
def _prior(i, n):
    """Unnormalised log prior of candidate i of n."""
    x = i.to(tl.float32) / tl.maximum(n - 1, 1)
    rise = tl.exp2(tl.log2(tl.maximum(x, 1e-30)) * PRIOR_POWER)
    return (tl.log2(tl.maximum(1.0 - x, 1e-6)) * LN2 * PRIOR_ETA - rise * PRIOR_BETA) * PRIOR_WEIGHT


@triton.jit
def _fuse(
    scores, rows, refresh_rows, max_weight, stride_layer, stride_head,
    KV: tl.constexpr, COLS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Normalise the evidence of one head and mix in the prior, in place."""
    head, layer = tl.program_id(0) % KV, tl.program_id(0) // KV
    row = tl.load(refresh_rows + tl.program_id(1))
    if row < 0:
        return
    rows += row * COLS
    stages = tl.load(rows + STAGES)
    if (stages & (PRIOR | NMS | EXCLUSION)) == 0:  # the others do not mind a constant factor
        return
    n = tl.load(rows + CANDIDATES)
    scores += layer.to(tl.int64) * stride_layer + head.to(tl.int64) * stride_head + tl.load(rows + EVIDENCE_AT)
    best = tl.zeros([], tl.float32) + EMPTY
    total, prior_total = 0.0, 0.0
    for start in range(0, n, BLOCK):
        i = start + tl.arange(0, BLOCK)
        s = tl.load(scores + i, mask=i < n, other=EMPTY)
        new_best = tl.maximum(best, tl.max(s, 0))
        total = total * tl.exp2((best - new_best) * LOG2E) + tl.sum(tl.exp2((s - new_best) * LOG2E), 0)
        prior_total += tl.sum(tl.where(i < n, tl.exp2(_prior(i, n) * LOG2E), 0.0), 0)
        best = new_best
    log_total, log_prior = best + tl.log2(total) * LN2, tl.log2(prior_total) * LN2
    weight = 0.0
    if (stages & PRIOR) != 0:
        ff, fr, distance = 0.0, 0.0, 0.0
        for start in range(0, n, BLOCK):
            i = start + tl.arange(0, BLOCK)
            s = tl.load(scores + i, mask=i < n, other=EMPTY)
            f = tl.where(i < n, tl.exp2((s - log_total) * LOG2E), 0.0)
            r = tl.where(i < n, tl.exp2((_prior(i, n) - log_prior) * LOG2E), 0.0)
            ff += tl.sum(f * f, 0)
            fr += tl.sum(f * r, 0)
            distance += tl.sum((f - r) * (f - r), 0)
        weight = tl.minimum(tl.maximum((ff - fr) / tl.maximum(distance, TINY), 0.0), max_weight)
    for start in range(0, n, BLOCK):
        i = start + tl.arange(0, BLOCK)
        s = tl.load(scores + i, mask=i < n, other=EMPTY) - log_total
        if (stages & PRIOR) != 0:
            mixed = (1.0 - weight) * tl.exp2(s * LOG2E) + weight * tl.exp2((_prior(i, n) - log_prior) * LOG2E)
            s = tl.log2(mixed + TINY) * LN2
        tl.store(scores + i, s, mask=i < n)


@triton.jit
def _higher(a, b):
    return tl.maximum(a, b)


@triton.jit
def _near(line, j, offset, lo, hi, end):
    """Scores at j + offset, EMPTY outside of [lo, hi). Up to `end`, a multiple of 16: aligned loads are vectors."""
    near = j + offset
    value = tl.load(line + near, mask=(near >= lo) & (near < end), other=EMPTY)
    return tl.where(near < hi, value, EMPTY)


@triton.jit
def _window(
    scores, rows, page_to_row, layers, stride_buffer, stride_layer, stride_head,
    STAGE: tl.constexpr, AFTER: tl.constexpr, COLS: tl.constexpr, PAGE: tl.constexpr,
):  # fmt: skip
    """Windowed maximum over [j - before, j + AFTER] of one page of one head, layer by layer: span, or NMS from it.

    Four neighbours at a time: what all four windows share is a maximum of whole groups of four, the windows' ends are
    running maxima within a group.
    """
    page, head = tl.program_id(0), tl.program_id(1)
    row = tl.load(page_to_row + page)
    if row < 0:
        return
    rows += row * COLS
    stages = tl.load(rows + STAGES)
    if (stages & STAGE) == 0:
        return
    source = (stages & NMS) // NMS if STAGE == SPAN else stages * 0
    before = tl.multiple_of(stages >> WIDTH_BIT, 4) if STAGE == SPAN else NMS_RADIUS
    lo = tl.multiple_of(tl.load(rows + EVIDENCE_AT), 16)  # the start of a page
    hi = lo + tl.load(rows + CANDIDATES)
    end = tl.multiple_of((hi + 15) // 16 * 16, 16)
    j = page * PAGE + tl.arange(0, PAGE // 4)[:, None] * 4 + tl.arange(0, 4)[None, :]
    line = scores + head.to(tl.int64) * stride_head
    for _ in range(layers):
        read = line + source.to(tl.int64) * stride_buffer
        left = tl.associative_scan(_near(read, j, -before, lo, hi, end), 1, _higher, reverse=True)
        right = tl.associative_scan(_near(read, j, AFTER, lo, hi, end), 1, _higher)
        shared = _near(read, j, AFTER - 4, lo, hi, end)
        for group in range(4 - before, AFTER - 4, 4):
            shared = tl.maximum(shared, _near(read, j, group, lo, hi, end))
        highest = tl.maximum(tl.maximum(left, right), tl.max(shared, 1)[:, None])
        if STAGE == NMS:
            own = tl.load(read + j, mask=j < end, other=0.0)
            highest = own - (highest - own) * NMS_STRENGTH
        tl.store(line + (1 - source).to(tl.int64) * stride_buffer + j, highest, mask=j < end)
        line += stride_layer


@triton.jit
def _exclude(
    scores, rows, page_to_row, stride_buffer, stride_layer, stride_head,
    KV: tl.constexpr, HEADS: tl.constexpr, COLS: tl.constexpr, PAGE: tl.constexpr,
):  # fmt: skip
    """A token counts for less where other KV heads want it more; one page of all heads of one layer, in place."""
    page, layer = tl.program_id(0), tl.program_id(1)
    row = tl.load(page_to_row + page)
    if row < 0:
        return
    rows += row * COLS
    stages = tl.load(rows + STAGES)
    if (stages & EXCLUSION) == 0:
        return
    hi = tl.load(rows + EVIDENCE_AT) + tl.load(rows + CANDIDATES)
    heads = tl.arange(0, HEADS)[:, None]
    scores += ((stages & NMS) // NMS).to(tl.int64) * stride_buffer + layer.to(tl.int64) * stride_layer
    BLOCK: tl.constexpr = 128
    for start in range(page * PAGE, page * PAGE + PAGE, BLOCK):
        j = start + tl.arange(0, BLOCK)[None, :]
        where = scores + heads.to(tl.int64) * stride_head + j
        mask = (heads < KV) & (j < hi)
        s = tl.load(where, mask=mask, other=EMPTY)
        logits = s / TEMPERATURE
        best = tl.max(logits, 0)[None, :]
        share = logits - best - tl.log2(tl.sum(tl.exp2((logits - best) * LOG2E), 0))[None, :] * LN2
        tl.store(where, s + share * STRENGTH, mask=mask)


def apply(scores: Tensor, rows: Tensor, refresh_rows: Tensor, page_to_row: Tensor, evidence_rows: int) -> None:
    """Run every row's stages on the evidence in scores[0].

    scores: float32 [2, layers, KV, T]. rows: int32 [rows, COLUMNS]. refresh_rows: int32 [n], -1 for none.
    page_to_row: int32 [T / EVIDENCE_PAGE], the row that owns each page, -1 for none. evidence_rows: R, queries merged
    per KV head.
    """
    _, layers, kv_heads, _ = scores.shape
    buffer, layer, head, _ = scores.stride()
    pages = page_to_row.shape[0]
    max_weight = 0.25 if evidence_rows > 1 else 0.35
    _fuse[(layers * kv_heads, refresh_rows.shape[0])](
        scores, rows, refresh_rows, max_weight, layer, head, KV=kv_heads, COLS=COLUMNS, BLOCK=2048, num_warps=8
    )
    _window[(pages, kv_heads)](
        scores, rows, page_to_row, layers, buffer, layer, head,
        STAGE=NMS, AFTER=NMS_RADIUS, COLS=COLUMNS, PAGE=EVIDENCE_PAGE, num_warps=8,
    )  # fmt: skip
    if kv_heads > 2:
        _exclude[(pages, layers)](
            scores, rows, page_to_row, buffer, layer, head,
            KV=kv_heads, HEADS=triton.next_power_of_2(kv_heads), COLS=COLUMNS, PAGE=EVIDENCE_PAGE, num_warps=4,
        )  # fmt: skip
    _window[(pages, kv_heads)](
        scores, rows, page_to_row, layers, buffer, layer, head,
        STAGE=SPAN, AFTER=SPAN_BEHIND, COLS=COLUMNS, PAGE=EVIDENCE_PAGE, num_warps=8,
    )  # fmt: skip
