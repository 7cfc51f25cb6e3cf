"""Attention of wide rows: a row and the tokens that it repairs read the K and V of their request together.

A row's queries are batch rows of their own (`TAIL` and the ones after it, itself last), causal among themselves. They
are cut into tiles of query heads of one KV head, and the context into splits of SPLIT tokens; the host lists
the pieces that have work, tiles of one split beside each other so that they share it in the L2 cache. Partial results
go where those of single rows go, and the same merge joins them (kernels/decode.py).
"""

import triton
import triton.language as tl
from torch import Tensor

from sfi_sglang.kernels.decode import EMPTY, DecodeBuffers
from sfi_sglang.kernels.heads import within
from sfi_sglang.kernels.launch import LETS_IN, PTX, WideLaunch, chained
from sfi_sglang.kernels.rows import CANDIDATES, COLUMNS, EVIDENCE_AT, FIRST, LENGTH, PARTS, SPLIT, TAIL
from sfi_sglang.kernels.rows import WIDE as QUERIES_OF
from sfi_sglang.kernels.scores import log2_logits, logit_arguments
from sfi_sglang.selection.scoring import Scoring


@triton.jit
def take(
    q, k_ptr, v_ptr, slot, i, hi, limit, head, scale, cap, best, total, acc,
    KV: tl.constexpr, D: tl.constexpr, DP: tl.constexpr, CAPPED: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    """Add tokens i, which lie in `slot`, to the running softmax of a tile. Returns it and what a caller may want to
    keep: dot products (logits, if CAPPED), probabilities and the factor by which earlier sums shrink. MASKED: some of
    the tokens are not there, or not for every query."""
    d_ids = tl.arange(0, DP)
    offset = (slot.to(tl.int64)[:, None] * KV + head) * D + d_ids[None, :]
    if MASKED:
        there = within(i[:, None] < hi, d_ids, D, DP)
        k, v = tl.load(k_ptr + offset, mask=there, other=0.0), tl.load(v_ptr + offset, mask=there, other=0.0)
    elif D == DP:
        k, v = tl.load(k_ptr + offset), tl.load(v_ptr + offset)
    else:
        there = d_ids[None, :] < D
        k, v = tl.load(k_ptr + offset, mask=there, other=0.0), tl.load(v_ptr + offset, mask=there, other=0.0)
    k, v = k.to(q.dtype), v.to(q.dtype)
    qk = tl.dot(q, tl.trans(k))
    if CAPPED:
        qk = log2_logits(qk, scale, cap, CAPPED)
        scale = 1.0
    if MASKED:
        qk = tl.where(i[None, :] < tl.minimum(limit, hi)[:, None], qk, EMPTY)
    new_best = tl.maximum(best, tl.max(qk, 1) * scale)
    p = tl.exp2(qk * scale - new_best[:, None])  # one instruction for both
    if MASKED:
        p = tl.where(qk > EMPTY, p, 0.0)
    shrink = tl.exp2(best - new_best)
    acc = acc * shrink[:, None] + tl.dot(p.to(v.dtype), v)
    return new_best, total * shrink + tl.sum(p, 1), acc, qk, p, shrink


PACK = tl.constexpr(16)  # numbers of a tile that a thread looks at together


def _store_some() -> str:
    """PTX for PACK numbers of a thread, which are of two rows at most. A warp that has no row to store leaves at once,
    which saves 5% of the kernel at 25 queries."""
    pack = PACK.value
    line, column, first, last, value, scale = (range(pack * n, pack * (n + 1)) for n in range(1, 7))
    leave = [
        "{ .reg .pred p; .reg .u64 any, address; .reg .f32 logit;",
        f"mov.b64 any, ${line[0]};",
        *(f"or.b64 any, any, ${n};" for n in line[1:]),
        "setp.eq.u64 p, any, 0; @p bra DONE;",
    ]
    for n in range(pack):
        leave += [
            f"setp.ne.u64 p, ${line[n]}, 0; setp.ge.and.s32 p, ${column[n]}, ${first[n]}, p;",
            f"setp.lt.and.s32 p, ${column[n]}, ${last[n]}, p; mad.wide.s32 address, ${column[n]}, 4, ${line[n]};",
            f"mul.f32 logit, ${value[n]}, ${scale[n]}; @p st.global.f32 [address], logit;",
        ]
    return "\n".join([*leave, "DONE:", *(f"mov.u32 ${n}, 0;" for n in range(pack)), "}"])  # elementwise: a result each


STORE = tl.constexpr(_store_some())
OPERANDS = tl.constexpr(",".join(["=r"] * PACK.value + [kind for kind in "lrrrff" for _ in range(PACK.value)]))


@triton.jit
def _leave(lines, taken, columns, first, last, values, scale, ASM: tl.constexpr):
    """Store a tile [M, BLOCK] of logits, values * scale, from where they lie; `tl.store` would take them through shared
    memory first. lines: pointers [M]. columns: [BLOCK]. Only for rows that are `taken`, and for columns from `first` to
    `last`."""
    if ASM:
        line = tl.where(taken, lines.to(tl.int64), 0)[:, None]
        tl.inline_asm_elementwise(
            STORE, OPERANDS, [line, columns[None, :], first, last, values, scale], tl.int32, is_pure=False, pack=PACK
        )
    else:
        candidate = (columns >= first) & (columns < last)
        tl.store(lines[:, None] + columns[None, :], values * scale, mask=taken[:, None] & candidate[None, :])


@triton.jit
def _keep(
    lines, i, start, first, last, taken, qk, scale, p, candidate_total, shrink, BLOCK: tl.constexpr,
    ASM: tl.constexpr,
):  # fmt: skip
    """Leave the evidence of a block and sum the candidates' probabilities."""
    _leave(lines, taken, i, first, last, qk, scale, ASM)
    mass = tl.sum(p, 1)
    if (start < first) | (start + BLOCK > last):
        candidate = (i >= first) & (i < last)
        mass = tl.sum(tl.where(candidate[None, :], p, 0.0), 1)
    return candidate_total * shrink + mass


@triton.jit
def _attend_wide(
    q_ptr, k_ptr, v_ptr, req_to_token, req_pool_indices, rows, pieces, part_out, part_lse, part_candidates,
    logits, scale, cap, stride_q, stride_tokens, stride_parts, stride_logits,
    KV: tl.constexpr, G: tl.constexpr, GP: tl.constexpr, M: tl.constexpr, D: tl.constexpr, DP: tl.constexpr,
    BLOCK: tl.constexpr, EVIDENCE: tl.constexpr, COLS: tl.constexpr, CAPPED: tl.constexpr, CHAINED: tl.constexpr,
    ASM: tl.constexpr,
):  # fmt: skip
    """One piece of one KV head: a tile's queries over up to SPLIT tokens. GP: G, padded to a power of two."""
    head, piece = tl.program_id(0), tl.program_id(1)
    row = tl.load(pieces + piece * 3)
    tile, split = tl.load(pieces + piece * 3 + 1), tl.load(pieces + piece * 3 + 2)
    chained(CHAINED)
    if row < 0:
        return
    m_ids, d_ids = tl.arange(0, M), tl.arange(0, DP)
    own = rows + row * COLS
    width, length = tl.load(own + QUERIES_OF), tl.load(own + LENGTH)
    query, g = tile * (M // GP) + m_ids // GP, m_ids % GP
    real = (query < width) & (g < G)
    batch_row = tl.where(real & (query < width - 1), tl.load(own + TAIL) + query, row)
    limit = tl.where(real, tl.load(rows + batch_row * COLS + LENGTH), length)  # tokens that a query sees, its own too
    size = tl.load(own + SPLIT)
    lo = split * size
    hi = tl.minimum(lo + size, tl.max(tl.where(real, limit, 0), 0))
    if lo >= hi:
        return
    tokens = req_to_token + tl.load(req_pool_indices + row).to(tl.int64) * stride_tokens
    there = within(real[:, None], d_ids, D, DP)
    q_line = q_ptr + batch_row * stride_q + (head * G + g) * D
    q = tl.load(q_line[:, None] + d_ids[None, :], mask=there, other=0.0)
    best = tl.full([M], EMPTY, tl.float32)
    total = tl.zeros([M], tl.float32)
    candidate_total = tl.zeros([M], tl.float32)
    acc = tl.zeros([M, DP], tl.float32)
    evidence_at, first = tl.load(own + EVIDENCE_AT), tl.load(own + FIRST)
    last = tl.minimum(first + tl.load(own + CANDIDATES), hi)  # beyond are the next split's
    taken = real & (query == width - 1) & (evidence_at >= 0)  # leaves evidence
    evidence = tl.max(taken.to(tl.int32), 0) != 0
    lines = logits + (head * G + g).to(tl.int64) * stride_logits + evidence_at - first
    ids, unit = tl.arange(0, BLOCK), 1.0 if CAPPED else scale  # of what `take` returns
    whole = lo + tl.maximum(tl.minimum(tl.min(limit, 0), hi) - lo, 0) // BLOCK * BLOCK  # every query sees these blocks
    for masked in tl.static_range(2):
        for start in range(whole if masked else lo, hi if masked else whole, BLOCK):
            i = start + ids
            slot = tl.load(tokens + i, mask=i < hi, other=0) if masked else tl.load(tokens + i)
            best, total, acc, qk, p, shrink = take(
                q, k_ptr, v_ptr, slot, i, hi, limit, head, scale, cap, best, total, acc, KV, D, DP, CAPPED, masked
            )
            # EVIDENCE is a constant: joined by `and`, the branch would be compiled without it too.
            if EVIDENCE:  # noqa: SIM102
                if evidence:
                    candidate_total = _keep(
                        lines, i, start, first, last, taken, qk, unit, p, candidate_total, shrink, BLOCK, ASM
                    )
    seen = real & (limit > lo)
    part = (head * stride_parts + tl.load(rows + batch_row * COLS + PARTS) + split) * G + g
    there = within(seen[:, None], d_ids, D, DP)
    tl.store(part_out + part[:, None] * D + d_ids[None, :], acc / total[:, None], mask=there)
    tl.store(part_lse + part, best + tl.log2(total), mask=seen)
    if EVIDENCE:
        lse = tl.where(candidate_total > 0, best + tl.log2(candidate_total), EMPTY)
        tl.store(part_candidates + part, lse, mask=seen)


def attend_wide(
    q: Tensor,
    keys: Tensor,
    values: Tensor,
    req_to_token: Tensor,
    req_pool_indices: Tensor,
    rows: Tensor,
    pieces: Tensor,
    buffers: DecodeBuffers,
    scoring: Scoring,
    launch: WideLaunch,
    evidence: bool = True,
) -> None:
    """Partial results of the wide rows, beside those of `decode.attend`, whose arguments these are.

    pieces: int32 [n, 3], a wide row, a tile of its queries and a split of its context; row -1 for none. evidence: slow
    rows may be among them.
    """
    _, heads, dim = q.shape
    kv_heads = keys.shape[1]
    group = heads // kv_heads
    _attend_wide[(kv_heads, pieces.shape[0])](
        q, keys, values, req_to_token, req_pool_indices, rows, pieces,
        buffers.out, buffers.lse, buffers.candidates, buffers.logits,
        stride_q=q.stride(0), stride_tokens=req_to_token.stride(0), stride_parts=buffers.lse.shape[1],
        stride_logits=buffers.logits.stride(0),
        KV=kv_heads, G=group, GP=triton.next_power_of_2(group), M=launch.tile, D=dim, DP=triton.next_power_of_2(dim),
        BLOCK=launch.tokens(dim), EVIDENCE=evidence, COLS=COLUMNS,
        num_warps=launch.warps, num_stages=launch.stages, ASM=PTX,
        **logit_arguments(scoring), **LETS_IN,
    )  # fmt: skip
