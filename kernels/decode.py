"""Decode attention over the visible tokens of each row: split-K over (KV head, split, row), then one merge.

Visible token i is position i below the sink, then a selected position, then a recent one; slots come from SGLang's
`req_to_token`, so nothing is packed or planned. Slow rows leave the logits of their candidates behind (the tap): K is
read once for attention and evidence.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from sfi_sglang.kernels.rows import CANDIDATES, COLUMNS, COUNT, FIRST, LENGTH, MEMORY, RECENT, SINK, SPLIT, TAP

LOG2E = tl.constexpr(1.4426950408889634)
LN2 = tl.constexpr(0.6931471805599453)
EMPTY = tl.constexpr(-1.0e30)  # a logit that no real one undercuts
MIN_DOT = 16  # fewest rows of tl.dot


@triton.jit
def _attend(
    q_ptr, k_ptr, v_ptr, req_to_token, pool_rows, memory, rows, part_out, part_lse, part_candidates, logits,
    scale_log2, stride_slots, stride_memory, keep, stride_logits,
    KV: tl.constexpr, G: tl.constexpr, M: tl.constexpr, D: tl.constexpr, BLOCK: tl.constexpr, SPLITS: tl.constexpr,
    COLS: tl.constexpr, WITH_TAP: tl.constexpr,
):  # fmt: skip
    """One split of one KV head of one row: its G query heads over up to SPLIT visible tokens."""
    head, split, row = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    rows += row * COLS
    sink, count, recent = tl.load(rows + SINK), tl.load(rows + COUNT), tl.load(rows + RECENT)
    visible = sink + count + tl.load(rows + LENGTH) - recent
    size = tl.load(rows + SPLIT)
    lo = split * size
    if lo >= visible:
        return
    hi = tl.minimum(lo + size, visible)
    m_ids, d_ids = tl.arange(0, M), tl.arange(0, D)
    real = m_ids[:, None] < G
    q = tl.load(q_ptr + ((row * KV + head) * G + m_ids[:, None]) * D + d_ids[None, :], mask=real, other=0.0)
    slots = req_to_token + tl.load(pool_rows + row).to(tl.int64) * stride_slots
    chosen = memory + tl.load(rows + MEMORY).to(tl.int64) * stride_memory + head * keep
    best = tl.full([M], EMPTY, tl.float32)
    total = tl.zeros([M], tl.float32)
    candidate_total = tl.zeros([M], tl.float32)
    acc = tl.zeros([M, D], tl.float32)
    tap = -1
    first = 0
    last = 0
    if WITH_TAP:
        tap, first = tl.load(rows + TAP), tl.load(rows + FIRST)
        last = first + tl.load(rows + CANDIDATES)
    for start in range(lo, hi, BLOCK):
        i = start + tl.arange(0, BLOCK)
        inside = i < hi
        is_chosen = (i >= sink) & (i < sink + count)
        position = tl.where(i < sink, i, i - sink - count + recent)
        picked = tl.load(chosen + i - sink, mask=inside & is_chosen, other=0)
        position = tl.where(is_chosen, picked, position)
        slot = tl.load(slots + position, mask=inside, other=0).to(tl.int64)
        offset = (slot[:, None] * KV + head) * D + d_ids[None, :]
        k = tl.load(k_ptr + offset, mask=inside[:, None], other=0.0)
        qk = tl.dot(q, tl.trans(k)) * scale_log2
        qk = tl.where(inside[None, :], qk, EMPTY)
        new_best = tl.maximum(best, tl.max(qk, 1))
        p = tl.exp2(qk - new_best[:, None])
        shrink = tl.exp2(best - new_best)
        if WITH_TAP:
            candidate = (i >= first) & (i < last) & inside
            where = logits + (head * G + m_ids[:, None]).to(tl.int64) * stride_logits + (tap + i - first)[None, :]
            tl.store(where, qk * LN2, mask=(candidate & (tap >= 0))[None, :] & real)
            candidate_total = candidate_total * shrink + tl.sum(tl.where(candidate[None, :], p, 0.0), 1)
        v = tl.load(v_ptr + offset, mask=inside[:, None], other=0.0)
        acc = acc * shrink[:, None] + tl.dot(p.to(v.dtype), v)
        total = total * shrink + tl.sum(p, 1)
        best = new_best
    part = ((row * KV + head) * SPLITS + split) * G + m_ids
    tl.store(part_out + part[:, None] * D + d_ids[None, :], acc / total[:, None], mask=real)
    tl.store(part_lse + part, best + tl.log2(total), mask=m_ids < G)
    if WITH_TAP:
        lse = tl.where(candidate_total > 0, best + tl.log2(candidate_total), EMPTY)
        tl.store(part_candidates + part, lse, mask=m_ids < G)


@triton.jit
def _merge(
    part_out, part_lse, part_candidates, rows, out, candidate_lse,
    KV: tl.constexpr, G: tl.constexpr, D: tl.constexpr, SPLITS: tl.constexpr, COLS: tl.constexpr,
    WITH_TAP: tl.constexpr,
):  # fmt: skip
    """Join the splits of one query head; for a slow row also the log-sum-exp over its candidates."""
    head, row = tl.program_id(0), tl.program_id(1)
    rows += row * COLS
    visible = tl.load(rows + SINK) + tl.load(rows + COUNT) + tl.load(rows + LENGTH) - tl.load(rows + RECENT)
    splits, d_ids = tl.arange(0, SPLITS), tl.arange(0, D)
    used = splits * tl.load(rows + SPLIT) < visible
    part = ((row * KV + head // G) * SPLITS + splits) * G + head % G
    lse = tl.load(part_lse + part, mask=used, other=EMPTY)
    weight = tl.exp2(lse - tl.max(lse, 0))
    weight = tl.where(used, weight / tl.sum(weight, 0), 0.0)
    values = tl.load(part_out + part[:, None] * D + d_ids[None, :], mask=used[:, None], other=0.0)
    tl.store(out + (row * KV * G + head) * D + d_ids, tl.sum(values * weight[:, None], 0).to(out.dtype.element_ty))
    if WITH_TAP:
        partial = tl.load(part_candidates + part, mask=used, other=EMPTY)
        best = tl.max(partial, 0)
        tl.store(candidate_lse + row * KV * G + head, (best + tl.log2(tl.sum(tl.exp2(partial - best), 0))) * LN2)


@dataclass(frozen=True)
class DecodeBuffers:
    """Partial results of up to `rows` rows, shared by all layers."""

    out: Tensor  # float32 [rows, KV, splits, G, D]
    lse: Tensor  # float32 [rows, KV, splits, G], log2
    candidates: Tensor  # as lse, over candidates only
    candidate_lse: Tensor  # float32 [rows, KV * G], natural log
    logits: Tensor  # float32 [KV * G, T]: natural logits of the slow rows' candidates, one layer's

    @classmethod
    def allocate(
        cls, rows: int, heads: int, kv_heads: int, dim: int, splits: int, candidates: int, device
    ) -> "DecodeBuffers":
        group = heads // kv_heads
        lse = torch.empty(rows, kv_heads, splits, group, device=device)
        out = torch.empty(*lse.shape, dim, device=device)
        joined = torch.empty(rows, heads, device=device)
        return cls(out, lse, torch.empty_like(lse), joined, torch.empty(heads, candidates, device=device))

    @property
    def splits(self) -> int:
        return self.lse.shape[2]


def decode(
    q: Tensor,
    keys: Tensor,
    values: Tensor,
    req_to_token: Tensor,
    pool_rows: Tensor,
    memory: Tensor,
    rows: Tensor,
    buffers: DecodeBuffers,
    out: Tensor,
    scale: float,
    tap: bool,
) -> Tensor:
    """Attention of one new token per row.

    q, out: [rows, heads, D]. keys, values: KV pool of the layer, [slots, KV, D]. req_to_token: int32 [pool rows,
    tokens]. pool_rows: integer [rows], the rows' lines of req_to_token. memory: int32 [memory rows, KV, keep], the
    layer's positions, any row stride. rows: int32 [rows, COLUMNS] (rows.py). With `tap`, slow rows leave
    `buffers.logits` and `buffers.candidate_lse`.
    """
    count, heads, dim = q.shape
    kv_heads = keys.shape[1]
    group = heads // kv_heads
    _attend[(kv_heads, buffers.splits, count)](
        q, keys, values, req_to_token, pool_rows, memory, rows,
        buffers.out, buffers.lse, buffers.candidates, buffers.logits,
        scale * LOG2E.value, req_to_token.stride(0), memory.stride(0), memory.stride(1), buffers.logits.stride(0),
        KV=kv_heads, G=group, M=max(MIN_DOT, triton.next_power_of_2(group)), D=dim,
        BLOCK=32 if dim > 128 else 64, SPLITS=buffers.splits, COLS=COLUMNS, WITH_TAP=tap, num_warps=4, num_stages=3,
    )  # fmt: skip
    _merge[(heads, count)](
        buffers.out, buffers.lse, buffers.candidates, rows, out, buffers.candidate_lse,
        KV=kv_heads, G=group, D=dim, SPLITS=buffers.splits, COLS=COLUMNS, WITH_TAP=tap, num_warps=2,
    )  # fmt: skip
    return out
