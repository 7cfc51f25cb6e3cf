"""Sparse extend: how much a query of each group attends to each block of BLOCK_TOKENS tokens of its prefix.

The queries are cut into tiles of M query heads of one KV head, and the prefix into splits, so that K is read once for a
tile and never V. A first kernel leaves the logsumexp of each block, 1/32 of the logits; a second one turns them into
probabilities, which it can only when the whole prefix is known, and means them over the query heads of a KV head.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from sfi_sglang.kernels.decode import EMPTY
from sfi_sglang.kernels.heads import queries_of_tile, within
from sfi_sglang.kernels.launch import CHOICE
from sfi_sglang.kernels.scores import log2_logits, logit_arguments
from sfi_sglang.selection.scoring import Scoring

BLOCK_TOKENS = 32
TILE = 128  # query heads of a tile
# Of a tile: line of req_to_token; first query, queries, where among `lse` the first one is; first block, end block.
COLUMNS = 6


@triton.jit(do_not_specialize=["size"])
def _block_lse(
    q_ptr, k_ptr, req_to_token, tiles, lse, scale, cap, stride_tokens, stride_lse, size,
    KV: tl.constexpr, G: tl.constexpr, GP: tl.constexpr, M: tl.constexpr, D: tl.constexpr, DP: tl.constexpr,
    TOKENS: tl.constexpr, BLOCK: tl.constexpr, COLS: tl.constexpr, CAPPED: tl.constexpr,
):  # fmt: skip
    """One tile of one KV head over `size` blocks."""
    head, tile, split = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    tiles += tile * COLS
    count, number = tl.load(tiles + 2), tl.load(tiles + 3)
    first, last = tl.load(tiles + 4), tl.load(tiles + 5)
    lo = first + split * size
    hi = tl.minimum(lo + size, last)
    if lo >= hi:
        return
    tokens = req_to_token + tl.load(tiles).to(tl.int64) * stride_tokens
    m_ids, d_ids, ids = tl.arange(0, M), tl.arange(0, DP), tl.arange(0, TOKENS)
    query, g = m_ids // GP, m_ids % GP
    real = (query < count) & (g < G)
    q_line = ((tl.load(tiles + 1) + query) * KV + head) * G + g
    there = within(real[:, None], d_ids, D, DP)
    q = tl.load(q_ptr + q_line.to(tl.int64)[:, None] * D + d_ids[None, :], mask=there, other=0.0)
    lse += (((number + query) * KV + head) * G + g).to(tl.int64)[:, None] * stride_lse
    blocks = tl.arange(0, TOKENS // BLOCK)
    end = hi * BLOCK
    for start in range(lo * BLOCK, end, TOKENS):
        i = start + ids
        inside = within(i[:, None] < end, d_ids, D, DP)
        slot = tl.load(tokens + i, mask=i < end, other=0).to(tl.int64)
        k = tl.load(k_ptr + (slot[:, None] * KV + head) * D + d_ids[None, :], mask=inside, other=0.0).to(q.dtype)
        qk = log2_logits(tl.dot(q, tl.trans(k)), scale, cap, CAPPED)
        qk = tl.reshape(qk, (M, TOKENS // BLOCK, BLOCK))
        best = tl.max(qk, 2)
        found = best + tl.log2(tl.sum(tl.exp2(qk - best[:, :, None]), 2))
        block = start // BLOCK + blocks
        tl.store(lse + (block - first)[None, :], found, mask=real[:, None] & (block < hi)[None, :])


@triton.jit
def _block_mass(
    lse, counts, mass, stride_lse, stride_mass, KV: tl.constexpr, G: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    """The mean probability of every block over the query heads of one query and KV head."""
    number, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    count = tl.load(counts + number)
    line = number * KV + head
    lse += line * G * stride_lse
    mass += line * stride_mass
    ids = tl.arange(0, CHUNK)
    for g in tl.static_range(G):
        own = lse + g * stride_lse
        best = tl.full([CHUNK], EMPTY, tl.float32)
        total = tl.zeros([CHUNK], tl.float32)
        for start in range(0, count, CHUNK):
            x = tl.load(own + start + ids, mask=start + ids < count, other=EMPTY)
            new_best = tl.maximum(best, x)
            total = total * tl.exp2(best - new_best) + tl.where(x > EMPTY, tl.exp2(x - new_best), 0.0)
            best = new_best
        most = tl.max(best, 0)
        whole = most + tl.log2(tl.sum(total * tl.exp2(best - most), 0))
        for start in range(0, count, CHUNK):
            inside = start + ids < count
            p = tl.exp2(tl.load(own + start + ids, mask=inside, other=EMPTY) - whole) / G
            if g > 0:
                p += tl.load(mass + start + ids, mask=inside, other=0.0)
            tl.store(mass + start + ids, p, mask=inside)


def block_mass(
    q: Tensor,
    keys: Tensor,
    req_to_token: Tensor,
    tiles: Tensor,
    counts: Tensor,
    scoring: Scoring,
    lse: Tensor,
    out: Tensor,
    splits: int,
) -> None:
    """Of one layer.

    q: [all queries, heads, D]. keys: the layer's pool [slots, KV, D]. req_to_token: int32 [lines, tokens]. tiles: int32
    [tiles, COLUMNS], of some queries. counts: int32 [queries], blocks that each has. lse: float32 [queries * heads, at
    least the most blocks], scratch. out: float32 [queries, KV, as many], written below `counts`. splits: of the longest
    prefix.
    """
    heads, dim = q.shape[1:]
    kv_heads = keys.shape[1]
    padded = triton.next_power_of_2(heads // kv_heads)
    tokens = CHOICE.block
    size = triton.cdiv(triton.cdiv(lse.shape[1], splits) * BLOCK_TOKENS, tokens) * tokens // BLOCK_TOKENS
    _block_lse[(kv_heads, tiles.shape[0], triton.cdiv(lse.shape[1], size))](
        q, keys, req_to_token, tiles, lse, stride_tokens=req_to_token.stride(0), stride_lse=lse.stride(0), size=size,
        KV=kv_heads, G=heads // kv_heads, GP=padded, M=max(TILE, padded), D=dim, DP=triton.next_power_of_2(dim),
        TOKENS=tokens, BLOCK=BLOCK_TOKENS, COLS=COLUMNS, num_warps=CHOICE.warps, num_stages=CHOICE.stages,
        **logit_arguments(scoring),
    )  # fmt: skip
    _block_mass[(counts.shape[0], kv_heads)](
        lse, counts, out, lse.stride(0), out.stride(1), KV=kv_heads, G=heads // kv_heads, CHUNK=1024, num_warps=4
    )


def tiles_of(groups: list[tuple[int, int, int, range]], heads_each: int) -> tuple[Tensor, Tensor]:
    """Tiles and counts, on the host. groups: of some prompts: line of req_to_token, first query, queries, blocks to
    choose from. heads_each: query heads per KV head."""
    tiles, counts, width = [], list[int](), queries_of_tile(TILE, heads_each)
    for line, query, queries, blocks in groups:
        for first in range(0, queries, width):
            many = min(width, queries - first)
            tiles.append([line, query + first, many, len(counts) + first, blocks.start, blocks.stop])
        counts += [len(blocks)] * queries
    return torch.tensor(tiles, dtype=torch.int32), torch.tensor(counts, dtype=torch.int32)
