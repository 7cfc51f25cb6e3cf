"""Evidence: how much the queries attend to each candidate, merged over the query heads of a KV head.

Decoding merges the logits that the attention kernel left behind; a prompt's last queries need two passes over K.
The result is float32 log scores [layers, KV, T], row by row in pages of TILE candidates.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from sfi_sglang.kernels.decode import EMPTY, LOG2E, MIN_DOT, DecodeBuffers
from sfi_sglang.kernels.rows import AGREEMENT, CANDIDATES, COLUMNS, STAGES, TAP, TILE

LN2 = tl.constexpr(0.6931471805599453)


@triton.jit
def _merge_logits(
    logits, candidate_lse, rows, owners, evidence, stride_logits, stride_evidence,
    KV: tl.constexpr, G: tl.constexpr, COLS: tl.constexpr, PAGE: tl.constexpr,
):  # fmt: skip
    """One page of candidates of one KV head: mean, or power mean with exponent 1/2, of G rows of probabilities."""
    page, head = tl.program_id(0), tl.program_id(1)
    row = tl.load(owners + page)
    if row < 0:
        return
    rows += row * COLS
    token = page * PAGE + tl.arange(0, PAGE)
    inside = token < tl.load(rows + TAP) + tl.load(rows + CANDIDATES)
    alpha = tl.where((tl.load(rows + STAGES) & AGREEMENT) != 0, 0.5, 1.0)
    best = tl.full([PAGE], EMPTY, tl.float32)
    total = tl.zeros([PAGE], tl.float32)
    for g in tl.static_range(G):
        line = logits + (head * G + g).to(tl.int64) * stride_logits
        log_p = tl.load(line + token, mask=inside, other=EMPTY) - tl.load(candidate_lse + (row * KV + head) * G + g)
        log_p *= alpha
        new_best = tl.maximum(best, log_p)
        total = total * tl.exp2(best - new_best) + tl.exp2(log_p - new_best)
        best = new_best
    merged = (best + tl.log2(total) - tl.log2(G * 1.0)) * LN2 / alpha
    tl.store(evidence + head.to(tl.int64) * stride_evidence + token, merged, mask=inside)


def merge_logits(buffers: DecodeBuffers, rows: Tensor, owners: Tensor, evidence: Tensor) -> None:
    """Evidence of one layer's slow rows from their tapped logits, into `evidence` float32 [KV, T]. owners: int32
    [T / TILE], the row that owns each page, -1 for none. Not renormalised after the power mean."""
    kv_heads = evidence.shape[0]
    group = buffers.logits.shape[0] // kv_heads
    _merge_logits[(owners.shape[0], kv_heads)](
        buffers.logits, buffers.candidate_lse, rows, owners, evidence, buffers.logits.stride(0), evidence.stride(0),
        KV=kv_heads, G=group, COLS=COLUMNS, PAGE=TILE, num_warps=4,
    )  # fmt: skip


@triton.jit
def _prompt_lse(
    q_ptr, k_ptr, slots, part_best, part_total, scale_log2, first, candidates, size,
    KV: tl.constexpr, R: tl.constexpr, M: tl.constexpr, D: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Log-sum-exp of R queries over one split of the candidates of one KV head."""
    head, split = tl.program_id(0), tl.program_id(1)
    m_ids, d_ids = tl.arange(0, M), tl.arange(0, D)
    q = tl.load(q_ptr + (head * R + m_ids[:, None]) * D + d_ids[None, :], mask=m_ids[:, None] < R, other=0.0)
    best = tl.full([M], EMPTY, tl.float32)
    total = tl.zeros([M], tl.float32)
    lo = split * size
    hi = tl.minimum(lo + size, candidates)
    for start in range(lo, hi, BLOCK):
        i = start + tl.arange(0, BLOCK)
        slot = tl.load(slots + first + i, mask=i < hi, other=0).to(tl.int64)
        k = tl.load(k_ptr + (slot[:, None] * KV + head) * D + d_ids[None, :], mask=(i < hi)[:, None], other=0.0)
        qk = tl.where((i < hi)[None, :], tl.dot(q, tl.trans(k)) * scale_log2, EMPTY)
        new_best = tl.maximum(best, tl.max(qk, 1))
        total = total * tl.exp2(best - new_best) + tl.sum(tl.exp2(qk - new_best[:, None]), 1)
        best = new_best
    part = (split * KV + head) * M + m_ids
    tl.store(part_best + part, best)
    tl.store(part_total + part, total)


@triton.jit
def _prompt_scores(
    q_ptr, k_ptr, slots, lse, evidence, scale_log2, alpha, first, candidates, stride_evidence,
    KV: tl.constexpr, R: tl.constexpr, M: tl.constexpr, D: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Merged evidence of BLOCK candidates of one KV head."""
    head, block = tl.program_id(0), tl.program_id(1)
    m_ids, d_ids = tl.arange(0, M), tl.arange(0, D)
    real = m_ids < R
    q = tl.load(q_ptr + (head * R + m_ids[:, None]) * D + d_ids[None, :], mask=real[:, None], other=0.0)
    i = block * BLOCK + tl.arange(0, BLOCK)
    inside = i < candidates
    slot = tl.load(slots + first + i, mask=inside, other=0).to(tl.int64)
    k = tl.load(k_ptr + (slot[:, None] * KV + head) * D + d_ids[None, :], mask=inside[:, None], other=0.0)
    log_p = tl.dot(q, tl.trans(k)) * scale_log2 - tl.load(lse + head * M + m_ids)[:, None]
    log_p = tl.where(real[:, None], log_p * alpha, EMPTY)
    best = tl.max(log_p, 0)
    merged = best + tl.log2(tl.sum(tl.exp2(log_p - best[None, :]), 0)) - tl.log2(R * 1.0)
    tl.store(evidence + head.to(tl.int64) * stride_evidence + i, merged * LN2 / alpha, mask=inside)


def prompt_evidence(
    queries: Tensor,
    keys: Tensor,
    slots: Tensor,
    first: int,
    candidates: int,
    scale: float,
    agreement: bool,
    out: Tensor,
) -> None:
    """Evidence of one layer at the end of a prompt.

    queries: [KV, R, D], the last W queries of each query head of a KV head. keys: the layer's pool [slots, KV, D].
    slots: int32 [length], the request's line of req_to_token. out: float32 [KV, candidates], any row stride.
    """
    kv_heads, count, dim = queries.shape
    m = max(MIN_DOT, triton.next_power_of_2(count))
    block = 64
    size = max(block, triton.cdiv(triton.cdiv(candidates, 64), block) * block)
    splits = triton.cdiv(candidates, size)
    parts = torch.empty(2, splits, kv_heads, m, device=queries.device)
    shape = {"KV": kv_heads, "R": count, "M": m, "D": dim, "BLOCK": block, "num_warps": 4}
    scale_log2 = scale * LOG2E.value
    _prompt_lse[(kv_heads, splits)](
        queries, keys, slots, parts[0], parts[1], scale_log2, first, candidates, size, **shape
    )
    lse = torch.logsumexp(parts[0] * LN2.value + parts[1].log(), 0) * LOG2E.value
    _prompt_scores[(kv_heads, triton.cdiv(candidates, block))](
        queries, keys, slots, lse, out, scale_log2, 0.5 if agreement else 1.0, first, candidates, out.stride(0), **shape
    )
