"""Decode attention over the visible tokens of each row: split-K over (KV head, row, split), then one merge.

Visible token i is position i below the sink, then a selected position, then a recent one. `locate` looks the selected
positions' KV slots up, once a step for all layers; nothing is packed or planned. Slow rows leave the logits of their
candidates behind (`logits_out`): K is read once for attention and evidence.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from sfi_sglang.kernels.heads import prefetch, within
from sfi_sglang.kernels.launch import CHAINED, Launch, chained
from sfi_sglang.kernels.new_tokens import NONE, NewTokens, load_new, take_new
from sfi_sglang.kernels.rows import (
    CANDIDATES,
    COLUMNS,
    COUNT,
    EVIDENCE_AT,
    FIRST,
    LENGTH,
    PARTS,
    RECENT,
    SELECTION,
    SINK,
    SPLIT,
)
from sfi_sglang.kernels.scores import LOG2E, log2_logits, logit_arguments
from sfi_sglang.selection.scoring import Scoring

NOWHERE = tl.constexpr(1 << 14)  # a split beyond every row
EMPTY = tl.constexpr(-1.0e30)  # a logit that no real one undercuts
MIN_DOT = 16  # fewest rows of tl.dot
AHEAD = 64  # tokens of a split that the L2 cache is asked for while the previous kernel ends


@triton.jit
def _slots(tokens, chosen_slots, i, end, sink, count, recent):
    """KV slots of visible tokens i, 0 from `end` on."""
    chosen = (i >= sink) & (i < sink + count)
    position = tl.where(i < sink, i, i - sink - count + recent)
    slot = tl.load(tokens + position, mask=(i < end) & (chosen == 0), other=0)
    slot += tl.load(chosen_slots + i - sink, mask=(i < end) & chosen, other=0)
    return slot.to(tl.int64)


@triton.jit
def _attend(
    q_ptr, k_ptr, v_ptr, req_to_token, req_pool_indices, chosen_slots, rows, pieces, part_out, part_lse,
    part_candidates, logits, new_k, new_v, new_slots, scale, cap, stride_q, stride_tokens, stride_chosen, keep,
    stride_parts, stride_logits, stride_new_k, stride_new_v,
    KV: tl.constexpr, G: tl.constexpr, M: tl.constexpr, D: tl.constexpr, DP: tl.constexpr, BLOCK: tl.constexpr,
    COLS: tl.constexpr, CAPPED: tl.constexpr, LOGITS_OUT: tl.constexpr, AHEAD: tl.constexpr, CHAINED: tl.constexpr,
):  # fmt: skip
    """One split of one KV head of one row: its G query heads over up to SPLIT visible tokens."""
    head = tl.program_id(0)
    if LOGITS_OUT:  # lengths differ: the host lists the splits that have work
        piece = pieces + tl.program_id(1) * 2
        row, split = tl.maximum(tl.load(piece), 0), tl.where(tl.load(piece) < 0, NOWHERE, tl.load(piece + 1))
    else:
        row, split = tl.program_id(1), tl.program_id(2)  # splits that have no work come last
    rows += row * COLS
    sink, count, recent = tl.load(rows + SINK), tl.load(rows + COUNT), tl.load(rows + RECENT)
    visible = sink + count + tl.load(rows + LENGTH) - recent
    size = tl.load(rows + SPLIT)
    tokens = req_to_token + tl.load(req_pool_indices + row).to(tl.int64) * stride_tokens
    chosen_slots += tl.load(rows + SELECTION).to(tl.int64) * stride_chosen + head * keep
    lo = split * size
    hi = tl.minimum(lo + size, visible)
    if new_k is not None:  # the last token is not in the pool yet
        mine, hi = lo + size >= visible, tl.minimum(hi, visible - 1)
    if CHAINED and lo < visible:  # while the previous kernel ends
        slot = _slots(tokens, chosen_slots, lo + tl.arange(0, AHEAD), hi, sink, count, recent)
        prefetch(k_ptr, slot, head, KV, D, DP)
        prefetch(v_ptr, slot, head, KV, D, DP)
    chained(CHAINED)
    if lo >= visible:
        return
    m_ids, d_ids = tl.arange(0, M), tl.arange(0, DP)
    real = m_ids[:, None] < G
    q_mask = within(real, d_ids, D, DP)
    q = tl.load(q_ptr + row * stride_q + (head * G + m_ids[:, None]) * D + d_ids[None, :], mask=q_mask, other=0.0)
    if new_k is not None:
        own = load_new(new_k, new_v, new_slots, stride_new_k, stride_new_v, row, head, mine, KV, D, DP)
    best = tl.full([M], EMPTY, tl.float32)
    total = tl.zeros([M], tl.float32)
    candidate_total = tl.zeros([M], tl.float32)
    acc = tl.zeros([M, DP], tl.float32)
    if LOGITS_OUT:  # candidates are [first, last); none for a row that is not slow
        evidence_at, first = tl.load(rows + EVIDENCE_AT), tl.load(rows + FIRST)
        last = tl.where(evidence_at >= 0, first + tl.load(rows + CANDIDATES), first)
        line = (head * G + m_ids) * stride_logits + evidence_at - first
    for start in range(lo, hi, BLOCK):
        i = start + tl.arange(0, BLOCK)
        inside = i < hi
        slot = _slots(tokens, chosen_slots, i, hi, sink, count, recent)
        offset = (slot[:, None] * KV + head) * D + d_ids[None, :]
        there = within(inside[:, None], d_ids, D, DP)
        k = tl.load(k_ptr + offset, mask=there, other=0.0).to(q.dtype)
        v = tl.load(v_ptr + offset, mask=there, other=0.0).to(q.dtype)
        qk = log2_logits(tl.dot(q, tl.trans(k)), scale, cap, CAPPED)
        qk = tl.where(inside[None, :], qk, EMPTY)
        new_best = tl.maximum(best, tl.max(qk, 1))
        p = tl.exp2(qk - new_best[:, None])
        shrink = tl.exp2(best - new_best)
        acc = acc * shrink[:, None] + tl.dot(p.to(v.dtype), v)
        mass = tl.sum(p, 1)
        total = total * shrink + mass
        if LOGITS_OUT:
            candidate = (i >= first) & (i < last) & inside
            tl.store(logits + line[:, None] + i[None, :], qk, mask=candidate[None, :] & real)
            if (start < first) | (tl.minimum(start + BLOCK, hi) > last):
                mass = tl.sum(tl.where(candidate[None, :], p, 0.0), 1)
            candidate_total = candidate_total * shrink + mass
        best = new_best
    if new_k is not None:  # noqa: SIM102, a constant, as in kernels/wide.py
        if mine:
            best, total, acc = take_new(k_ptr, v_ptr, q, own, scale, cap, best, total, acc, D, DP, CAPPED)
    part = (head * stride_parts + tl.load(rows + PARTS) + split) * G + m_ids
    tl.store(part_out + part[:, None] * D + d_ids[None, :], acc / total[:, None], mask=q_mask)
    tl.store(part_lse + part, best + tl.log2(total), mask=m_ids < G)
    if LOGITS_OUT:
        lse = tl.where(candidate_total > 0, best + tl.log2(candidate_total), EMPTY)
        tl.store(part_candidates + part, lse, mask=m_ids < G)


@triton.jit
def _merge(
    part_out, part_lse, part_candidates, rows, sinks, out, candidate_lse, row_lse, v_scale, stride_parts,
    KV: tl.constexpr, G: tl.constexpr, D: tl.constexpr, DP: tl.constexpr, SPLITS: tl.constexpr, COLS: tl.constexpr,
    LOGITS_OUT: tl.constexpr, CHAINED: tl.constexpr,
):  # fmt: skip
    """Join the splits of one query head; with LOGITS_OUT also the log-sum-exps over all tokens and over candidates."""
    head, row = tl.program_id(0), tl.program_id(1)
    rows += row * COLS
    visible = tl.load(rows + SINK) + tl.load(rows + COUNT) + tl.load(rows + LENGTH) - tl.load(rows + RECENT)
    splits, d_ids = tl.arange(0, SPLITS), tl.arange(0, DP)
    used = splits * tl.load(rows + SPLIT) < visible
    part = (head // G * stride_parts + tl.load(rows + PARTS) + splits) * G + head % G
    chained(CHAINED)
    lse = tl.load(part_lse + part, mask=used, other=EMPTY)
    highest = tl.max(lse, 0)
    weight = tl.exp2(lse - highest)
    total = tl.sum(weight, 0)
    everything = total
    if sinks is not None:  # an infinite sum leaves the tokens nothing, as it should
        everything += tl.exp2(tl.load(sinks + head).to(tl.float32) * LOG2E - highest)
    weight = tl.where(used, weight / everything * v_scale, 0.0)
    there = within(used[:, None], d_ids, D, DP)
    values = tl.load(part_out + part[:, None] * D + d_ids[None, :], mask=there, other=0.0)
    result = tl.sum(values * weight[:, None], 0).to(out.dtype.element_ty)
    if D == DP:
        tl.store(out + (row * KV * G + head) * D + d_ids, result)
    else:
        tl.store(out + (row * KV * G + head) * D + d_ids, result, mask=d_ids < D)
    if LOGITS_OUT:
        partial = tl.load(part_candidates + part, mask=used, other=EMPTY)
        best = tl.max(partial, 0)
        tl.store(candidate_lse + row * KV * G + head, best + tl.log2(tl.sum(tl.exp2(partial - best), 0)))
        tl.store(row_lse + row * KV * G + head, highest + tl.log2(total))


@dataclass(frozen=True)
class DecodeBuffers:
    """Results of a layer's attention. A row has partial ones of as many splits as it is cut into."""

    out: Tensor  # float32 [KV, parts, G, D]
    lse: Tensor  # float32 [KV, parts, G], log2
    candidates: Tensor  # as lse, over candidates only
    candidate_lse: Tensor  # float32 [rows, KV * G], log2, of whole rows
    row_lse: Tensor  # as candidate_lse, over all tokens; sinks of a Scoring are none
    logits: Tensor  # float32 [KV * G, T]: logits, log2, of the slow rows' candidates, one layer's

    @classmethod
    def allocate(
        cls, rows: int, heads: int, kv_heads: int, dim: int, parts: int, candidates: int, device
    ) -> "DecodeBuffers":
        group, parts = heads // kv_heads, -(-parts // 16) * 16  # Triton compiles anew for what 16 does not divide
        lse = torch.empty(kv_heads, parts, group, device=device)
        out = torch.empty(*lse.shape, dim, device=device)
        candidate_lse, row_lse = torch.empty(2, rows, heads, device=device)
        logits = torch.empty(heads, candidates, device=device)
        return cls(out, lse, torch.empty_like(lse), candidate_lse, row_lse, logits)


def attend(
    q: Tensor,
    keys: Tensor,
    values: Tensor,
    req_to_token: Tensor,
    req_pool_indices: Tensor,
    chosen_slots: Tensor,
    rows: Tensor,
    pieces: Tensor,
    buffers: DecodeBuffers,
    scoring: Scoring,
    splits: int,
    logits_out: bool,
    launch: Launch,
    new: NewTokens | None = None,
) -> None:
    """Partial results of one new token per row, in the buffers: without sinks, in units of the stored values.

    q: [rows, heads, D], any row stride. keys, values: the layer's pool, [slots, KV, D], of q's type or FP8.
    req_to_token: int32 [pool rows, tokens]. req_pool_indices: integer [rows], the rows' lines of req_to_token.
    chosen_slots: int32 [rows, KV, keep], the layer's part of what `locate` wrote. rows: int32 [rows, COLUMNS]
    (rows.py). splits: of a row, at most. logits_out: slow rows leave logits and log-sum-exps in the buffers, and only
    the row and split of each of `pieces`, int32 [n, 2], are computed (row -1 for none): kernels/wide.py has the wide
    rows. new: the rows' last tokens, where the pool does not have them yet.
    """
    count, heads, dim = q.shape
    kv_heads = keys.shape[1]
    group = heads // kv_heads
    stride_chosen, keep, _ = chosen_slots.stride()
    _attend[(kv_heads, pieces.shape[0]) if logits_out else (kv_heads, count, splits)](
        q, keys, values, req_to_token, req_pool_indices, chosen_slots, rows, pieces,
        buffers.out, buffers.lse, buffers.candidates, buffers.logits,
        stride_q=q.stride(0), stride_tokens=req_to_token.stride(0), stride_chosen=stride_chosen, keep=keep,
        stride_parts=buffers.lse.shape[1], stride_logits=buffers.logits.stride(0), KV=kv_heads, G=group,
        M=max(MIN_DOT, triton.next_power_of_2(group)), D=dim, DP=triton.next_power_of_2(dim),
        BLOCK=launch.tokens(dim), COLS=COLUMNS, LOGITS_OUT=logits_out, AHEAD=AHEAD,
        num_warps=launch.warps, num_stages=launch.stages, **(new.arguments if new else NONE), **CHAINED,
        **logit_arguments(scoring),
    )  # fmt: skip


def merge(
    rows: Tensor,
    buffers: DecodeBuffers,
    out: Tensor,
    scoring: Scoring,
    kv_heads: int,
    splits: int,
    logits_out: bool,
) -> Tensor:
    """Join the partial results of all rows, and the sinks, into `out` [rows, heads, D]. splits: a power of two; no row
    has more."""
    count, heads, dim = out.shape
    merge_warps = 1 if splits <= 16 else 2  # the best on an H200
    _merge[(heads, count)](
        buffers.out, buffers.lse, buffers.candidates, rows, scoring.sinks, out, buffers.candidate_lse,
        buffers.row_lse, scoring.v_scale, buffers.lse.shape[1], KV=kv_heads, G=heads // kv_heads, D=dim,
        DP=triton.next_power_of_2(dim), SPLITS=splits, COLS=COLUMNS, LOGITS_OUT=logits_out,
        num_warps=merge_warps, **CHAINED,
    )  # fmt: skip
    return out
