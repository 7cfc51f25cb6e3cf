"""Evidence: how much the queries attend to each candidate, merged over the query heads of a KV head.

Decoding merges the logits that the attention kernel left behind, and coverage.py looks at them in the same launch; a
prompt's last queries need two passes over K. The result is float32 log scores [layers, KV, T], row by row in pages of
EVIDENCE_PAGE candidates.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from sfi_sglang.api.options import EVIDENCE_PAGE
from sfi_sglang.kernels.coverage import caught
from sfi_sglang.kernels.decode import EMPTY, MIN_DOT, DecodeBuffers
from sfi_sglang.kernels.heads import within
from sfi_sglang.kernels.launch import CHAINED, chained
from sfi_sglang.kernels.rows import AGREEMENT, CANDIDATES, COLUMNS, EVIDENCE_AT, OLD_RECENT, STAGES
from sfi_sglang.kernels.scores import LOG2E, log2_logits, logit_arguments
from sfi_sglang.selection.scoring import Scoring

LN2 = tl.constexpr(0.6931471805599453)


@triton.jit
def _merge_logits(
    logits, candidate_lse, row_lse, rows, page_to_row, refresh_rows, selection, evidence, mass,
    stride_logits, stride_evidence, stride_selection, stride_head, stride_mass, slow,
    KV: tl.constexpr, G: tl.constexpr, GP: tl.constexpr, COLS: tl.constexpr, PAGE: tl.constexpr,
    CHAINED: tl.constexpr,
):  # fmt: skip
    """One page of candidates of one KV head: mean, or power mean with exponent 1/2, of G rows of probabilities. The
    first `slow` programs of a head compute the coverage of one slow row each instead."""
    page, head = tl.program_id(0) - slow, tl.program_id(1)
    if page < 0:  # noqa: SIM108, Triton has no such expression
        row = tl.load(refresh_rows + page + slow)
    else:
        row = tl.load(page_to_row + page)
    chained(CHAINED)
    if row < 0:
        return
    if page < 0:
        if tl.load(rows + row * COLS + OLD_RECENT) != 0:
            coverage, recall = caught(
                logits, candidate_lse, row_lse, rows, selection, row, head,
                stride_logits, stride_selection, stride_head, KV, G, GP, COLS,
            )  # fmt: skip
            tl.store(mass + row * stride_mass + head * 2, coverage)
            tl.store(mass + row * stride_mass + head * 2 + 1, recall)
        return
    rows += row * COLS
    token = page * PAGE + tl.arange(0, PAGE)
    inside = token < tl.load(rows + EVIDENCE_AT) + tl.load(rows + CANDIDATES)
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


def merge_logits(
    buffers: DecodeBuffers,
    rows: Tensor,
    page_to_row: Tensor,
    refresh_rows: Tensor,
    selection: Tensor,
    out: Tensor,
    mass: Tensor,
) -> None:
    """Evidence and coverage of one layer's slow rows from their tapped logits.

    page_to_row: int32 [T / EVIDENCE_PAGE], the row that owns each page, -1 for none. refresh_rows: int32 [n], -1 for
    none. selection: int32 [lines, KV, keep], the old positions in this layer. out: float32 [KV, T], the evidence, not
    renormalised after the power mean. mass: float32 [rows, KV, 2], coverage and recall
    of rows that had a selection; both may have any outer stride.
    """
    kv_heads, slow = out.shape[0], refresh_rows.shape[0]
    group = buffers.logits.shape[0] // kv_heads
    _merge_logits[(slow + page_to_row.shape[0], kv_heads)](
        buffers.logits, buffers.candidate_lse, buffers.row_lse, rows, page_to_row, refresh_rows, selection, out, mass,
        buffers.logits.stride(0), out.stride(0), *selection.stride()[:2], mass.stride(0), slow,
        KV=kv_heads, G=group, GP=triton.next_power_of_2(group), COLS=COLUMNS, PAGE=EVIDENCE_PAGE, num_warps=4,
        **CHAINED,
    )  # fmt: skip


@triton.jit
def _prompt_logits(
    q, k_ptr, slots, i, end, head, scale, cap,
    KV: tl.constexpr, D: tl.constexpr, DP: tl.constexpr, CAPPED: tl.constexpr,
):  # fmt: skip
    """Base-2 logits [M, BLOCK] of the queries over candidates i, EMPTY where there is none."""
    d_ids = tl.arange(0, DP)
    slot = tl.load(slots + i, mask=i < end, other=-1)
    there = slot >= 0
    offset = (slot.to(tl.int64)[:, None] * KV + head) * D + d_ids[None, :]
    k = tl.load(k_ptr + offset, mask=within(there[:, None], d_ids, D, DP), other=0.0).to(q.dtype)
    return tl.where(there[None, :], log2_logits(tl.dot(q, tl.trans(k)), scale, cap, CAPPED), EMPTY)


@triton.jit
def _prompt_queries(q_ptr, head, m_ids, count, D: tl.constexpr, DP: tl.constexpr):
    d_ids = tl.arange(0, DP)
    there = within(m_ids[:, None] < count, d_ids, D, DP)
    return tl.load(q_ptr + (head * count + m_ids[:, None]) * D + d_ids[None, :], mask=there, other=0.0)


# One version of the prompt kernels for all lengths: any other would be compiled in the middle of somebody's request.
@triton.jit(do_not_specialize=["candidates", "count", "size", "stride_slots"])
def _prompt_lse(
    q_ptr, k_ptr, slots, parts, scale, cap, candidates, count, size, stride_slots,
    KV: tl.constexpr, M: tl.constexpr, D: tl.constexpr, DP: tl.constexpr, BLOCK: tl.constexpr, CAPPED: tl.constexpr,
):  # fmt: skip
    """Natural log-sum-exp of `count` queries over one split of the candidates of one KV head."""
    head, split = tl.program_id(0), tl.program_id(1)
    m_ids = tl.arange(0, M)
    q = _prompt_queries(q_ptr, head, m_ids, count, D, DP)
    slots += head.to(tl.int64) * stride_slots
    best = tl.full([M], EMPTY, tl.float32)
    total = tl.zeros([M], tl.float32)
    lo = split * size
    hi = tl.minimum(lo + size, candidates)
    for start in range(lo, hi, BLOCK):
        qk = _prompt_logits(q, k_ptr, slots, start + tl.arange(0, BLOCK), hi, head, scale, cap, KV, D, DP, CAPPED)
        new_best = tl.maximum(best, tl.max(qk, 1))
        total = total * tl.exp2(best - new_best) + tl.sum(tl.exp2(qk - new_best[:, None]), 1)
        best = new_best
    tl.store(parts + (split * KV + head) * M + m_ids, (best + tl.log2(total)) * LN2)


@triton.jit(do_not_specialize=["candidates", "count", "stride_slots", "stride_evidence"])
def _prompt_scores(
    q_ptr, k_ptr, slots, lse, evidence, scale, cap, alpha, candidates, count, stride_slots, stride_evidence,
    KV: tl.constexpr, M: tl.constexpr, D: tl.constexpr, DP: tl.constexpr, BLOCK: tl.constexpr, CAPPED: tl.constexpr,
):  # fmt: skip
    """Merged evidence of BLOCK candidates of one KV head."""
    head, block = tl.program_id(0), tl.program_id(1)
    m_ids = tl.arange(0, M)
    real = m_ids < count
    q = _prompt_queries(q_ptr, head, m_ids, count, D, DP)
    slots += head.to(tl.int64) * stride_slots
    i = block * BLOCK + tl.arange(0, BLOCK)
    qk = _prompt_logits(q, k_ptr, slots, i, candidates, head, scale, cap, KV, D, DP, CAPPED)
    log_p = qk - (tl.load(lse + head * M + m_ids) * LOG2E)[:, None]
    log_p = tl.where(real[:, None], log_p * alpha, EMPTY)
    best = tl.max(log_p, 0)
    merged = best + tl.log2(tl.sum(tl.exp2(log_p - best[None, :]), 0)) - tl.log2(count * 1.0)
    tl.store(evidence + head.to(tl.int64) * stride_evidence + i, merged * LN2 / alpha, mask=i < candidates)


def prompt_evidence(
    queries: Tensor, keys: Tensor, slots: Tensor, scoring: Scoring, agreement: bool, out: Tensor
) -> None:
    """Evidence of one layer at the end of a prompt.

    queries: [KV, R, D], the last W queries of each query head of a KV head. keys: the layer's pool [slots, KV, D],
    of the queries' type or FP8.
    slots: int32 [KV, candidates] with any stride between heads: where the candidates' keys are, -1 for none. out:
    float32 [KV, candidates], any row stride; a candidate that is none gets about EMPTY.
    """
    kv_heads, count, dim = queries.shape
    candidates = slots.shape[1]
    m = max(MIN_DOT, triton.next_power_of_2(count))
    block = 64
    size = max(block, triton.cdiv(triton.cdiv(candidates, 64), block) * block)
    parts = torch.empty(triton.cdiv(candidates, size), kv_heads, m, device=queries.device)
    common = {
        "candidates": candidates, "count": count, "stride_slots": slots.stride(0), "KV": kv_heads, "M": m,
        "D": dim, "DP": triton.next_power_of_2(dim), "BLOCK": block, "num_warps": 4, **logit_arguments(scoring),
    }  # fmt: skip
    _prompt_lse[(kv_heads, parts.shape[0])](queries, keys, slots, parts, size=size, **common)
    _prompt_scores[(kv_heads, triton.cdiv(candidates, block))](
        queries, keys, slots, parts.logsumexp(0), out,
        alpha=0.5 if agreement else 1.0, stride_evidence=out.stride(0), **common,
    )  # fmt: skip
