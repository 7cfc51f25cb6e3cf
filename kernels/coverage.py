"""Coverage and recall: the attention mass of a slow row that its old selection would have caught, of all tokens and of
the candidates alone.

The launch that merges the logits into evidence also runs `caught`, layer by layer, where the old selection looks. After
the last layer `record` adds the mean to the request's sum, before the new one is chosen. Reference: `coverage` of
sfi_sglang/torch_executor.py.
"""

import triton
import triton.language as tl
from torch import Tensor

from sfi_sglang.kernels.decode import EMPTY
from sfi_sglang.kernels.rows import CANDIDATES, COLUMNS, EVIDENCE_AT, FIRST, OBSERVED, OLD_COUNT, OLD_RECENT, SELECTION

BLOCK = 512


@triton.jit
def caught(
    logits, candidate_lse, row_lse, rows, selection, row, head, stride_logits, stride_selection, stride_head,
    KV: tl.constexpr, G: tl.constexpr, COLS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Coverage and recall, means over the query heads of one KV head, in the layer at hand. selection: of this layer,
    all requests."""
    rows += row * COLS
    count, recent = tl.load(rows + OLD_COUNT), tl.load(rows + OLD_RECENT)
    first = tl.load(rows + FIRST)
    visible = count + first + tl.load(rows + CANDIDATES) - recent  # candidates in the old selection, or since
    selection += tl.load(rows + SELECTION).to(tl.int64) * stride_selection + head * stride_head
    lse = (row * KV + head) * G
    logits += (head * G).to(tl.int64) * stride_logits + tl.load(rows + EVIDENCE_AT) - first
    coverage, recall = 0.0, 0.0
    for g in tl.static_range(G):
        of_candidates = tl.load(candidate_lse + lse + g)
        found = 0.0
        for start in range(0, visible, BLOCK):
            i = start + tl.arange(0, BLOCK)
            position = tl.where(i < count, tl.load(selection + i, mask=i < count, other=0), recent + i - count)
            logit = tl.load(logits + g * stride_logits + position, mask=i < visible, other=EMPTY)
            found += tl.sum(tl.exp2(logit - of_candidates), 0)
        share = tl.exp2(of_candidates - tl.load(row_lse + lse + g))  # sink and recent tokens are always caught
        coverage += 1.0 - share + share * found
        recall += found
    return coverage / G, recall / G


@triton.jit
def _record(mass, rows, refresh_rows, sums, LINES: tl.constexpr, COLS: tl.constexpr, RING: tl.constexpr):
    """Add one slow row's means over `LINES` layers and KV heads to its request's sums."""
    row = tl.load(refresh_rows + tl.program_id(0))
    if row < 0:
        return
    rows += row * COLS
    if tl.load(rows + OLD_RECENT) == 0:
        return
    observed = tl.load(rows + OBSERVED)
    sums += tl.load(rows + SELECTION) * RING * 2
    for what in tl.static_range(2):
        total = 0.0
        for start in range(0, LINES, 256):
            i = start + tl.arange(0, 256)
            total += tl.sum(tl.load(mass + (row * LINES + i) * 2 + what, mask=i < LINES, other=0.0), 0)
        before = tl.load(sums + (observed + RING - 1) % RING * 2 + what, mask=observed > 0, other=0.0)
        tl.store(sums + observed % RING * 2 + what, before + total / LINES)


def record(mass: Tensor, rows: Tensor, refresh_rows: Tensor, sums: Tensor) -> None:
    """After the last layer. mass: float32 [rows, layers, KV, 2], what `merge_logits` left. rows: int32 [rows, COLUMNS].
    refresh_rows: int32 [n], -1 for none. sums: float32 [requests, table.RING, 2], of the
    slow steps so far, turn about."""
    _record[refresh_rows.shape](
        mass, rows, refresh_rows, sums, LINES=mass[0].numel() // 2, COLS=COLUMNS, RING=sums.shape[1], num_warps=1
    )
