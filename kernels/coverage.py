"""Coverage and recall: the attention mass of a slow row that its old selection would have caught, of all tokens and of
the candidates alone. Sinks of a Scoring are no tokens: what they take is neither caught nor missed.

The launch that merges the logits into evidence also runs `caught`, layer by layer, where the old selection looks. After
the last layer `record` adds them to the request's sums, before the new one is chosen. Reference: `coverage` of
sfi_sglang/attention/reference.py.
"""

import triton
import triton.language as tl
from torch import Tensor

from sfi_sglang.kernels.decode import EMPTY
from sfi_sglang.kernels.rows import CANDIDATES, COLUMNS, EVIDENCE_AT, FIRST, OBSERVED, OLD_COUNT, OLD_RECENT, SELECTION

TILE = tl.constexpr(4096)  # logits an iteration, of all query heads together: every load waits for another one


@triton.jit
def caught(
    logits, candidate_lse, row_lse, rows, selection, row, head, stride_logits, stride_selection, stride_head,
    KV: tl.constexpr, G: tl.constexpr, GP: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    """Coverage and recall, means over the query heads of one KV head, in the layer at hand. selection: of this layer,
    all requests. GP: G, padded to a power of two."""
    rows += row * COLS
    count, recent = tl.load(rows + OLD_COUNT), tl.load(rows + OLD_RECENT)
    first = tl.load(rows + FIRST)
    visible = count + first + tl.load(rows + CANDIDATES) - recent  # candidates in the old selection, or since
    selection += tl.load(rows + SELECTION).to(tl.int64) * stride_selection + head * stride_head
    g = tl.arange(0, GP)
    lse, real = (row * KV + head) * G + g, g < G
    of_candidates, of_all = tl.load(candidate_lse + lse, mask=real), tl.load(row_lse + lse, mask=real)
    logits += (head * G + g[:, None]).to(tl.int64) * stride_logits + tl.load(rows + EVIDENCE_AT) - first
    found = tl.zeros([GP], tl.float32)
    BLOCK: tl.constexpr = TILE // GP
    for start in range(0, visible, BLOCK):
        i = start + tl.arange(0, BLOCK)
        position = tl.where(i < count, tl.load(selection + i, mask=i < count, other=0), recent + i - count)
        there = real[:, None] & (i < visible)[None, :]
        logit = tl.load(logits + position[None, :], mask=there, other=EMPTY)
        found += tl.sum(tl.exp2(logit - of_candidates[:, None]), 1)
    share = tl.exp2(of_candidates - of_all)  # sink and recent tokens are always caught
    coverage = tl.where(real, 1.0 - share + share * found, 0.0)
    return tl.sum(coverage, 0) / G, tl.sum(tl.where(real, found, 0.0), 0) / G


@triton.jit
def _record(mass, rows, refresh_rows, sums, SIZE: tl.constexpr, COLS: tl.constexpr, RING: tl.constexpr):
    """Add one slow row's coverage and recall in all layers and KV heads, `SIZE` numbers, to its request's sums."""
    row = tl.load(refresh_rows + tl.program_id(0))
    if row < 0:
        return
    rows += row * COLS
    if tl.load(rows + OLD_RECENT) == 0:
        return
    observed = tl.load(rows + OBSERVED)
    sums += tl.load(rows + SELECTION).to(tl.int64) * RING * SIZE
    for start in range(0, SIZE, 256):
        i = start + tl.arange(0, 256)
        found = tl.load(mass + row * SIZE + i, mask=i < SIZE, other=0.0)
        before = tl.load(sums + (observed + RING - 1) % RING * SIZE + i, mask=(i < SIZE) & (observed > 0), other=0.0)
        tl.store(sums + observed % RING * SIZE + i, before + found, mask=i < SIZE)


def record(mass: Tensor, rows: Tensor, refresh_rows: Tensor, sums: Tensor) -> None:
    """After the last layer. mass: float32 [rows, layers, KV, 2], what `merge_logits` left. rows: int32 [rows, COLUMNS].
    refresh_rows: int32 [n], -1 for none. sums: float32 [requests, table.RING, layers, KV, 2], of the slow steps so far,
    turn about."""
    _record[refresh_rows.shape](
        mass, rows, refresh_rows, sums, SIZE=mass[0].numel(), COLS=COLUMNS, RING=sums.shape[1], num_warps=1
    )
