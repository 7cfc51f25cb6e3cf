"""Sparse extend: attention of a group of a prompt's new tokens to sink, the blocks chosen for it, and all since.

Visible token i of a group is position i below the sink, then one of a chosen block, then a recent or a new one. A
group's queries are cut into tiles of `tile_heads` query heads of one KV head; the host lists the tiles.
"""

import triton
import triton.language as tl
from torch import Tensor

from sfi_sglang.kernels.block_mass import BLOCK_TOKENS
from sfi_sglang.kernels.decode import EMPTY
from sfi_sglang.kernels.heads import within
from sfi_sglang.kernels.launch import GROUPS
from sfi_sglang.kernels.scores import LOG2E, logit_arguments
from sfi_sglang.kernels.wide import take
from sfi_sglang.selection.scoring import Scoring

TILE, TILE_NUMBERS = 256, 32768  # query heads of a tile, at most, and numbers of theirs
# Of a tile: line of req_to_token; first row of q, rows; group; tokens that the first row sees of the context; sink
# tokens, chosen ones, position of the first recent one.
COLUMNS = 8


def tile_heads(dim: int, heads_each: int, group: int) -> int:
    """Query heads of a tile of one KV head, no more than a group has. heads_each: query heads per KV head."""
    padded = triton.next_power_of_2(heads_each)
    most = min(TILE, TILE_NUMBERS // triton.next_power_of_2(dim), padded * triton.next_power_of_2(group))
    return max(most, padded, 16)  # the least of a tl.dot


@triton.jit
def _visible_slots(tokens, chosen, i, end, sink, count, recent, BLOCK: tl.constexpr):
    """KV slots of visible tokens i, 0 from `end` on."""
    of_block = (i >= sink) & (i < sink + count)
    block = tl.load(chosen + (i - sink) // BLOCK, mask=of_block, other=0)
    position = tl.where(i < sink, i, i - sink - count + recent)
    position = tl.where(of_block, block * BLOCK + (i - sink) % BLOCK, position)
    return tl.load(tokens + position, mask=i < end, other=0)


@triton.jit(do_not_specialize=["stride_chosen"])
def _attend_groups(
    q_ptr, k_ptr, v_ptr, req_to_token, tiles, chosen, sinks, out, scale, cap, v_scale, stride_tokens, stride_chosen,
    KV: tl.constexpr, G: tl.constexpr, GP: tl.constexpr, M: tl.constexpr, D: tl.constexpr, DP: tl.constexpr,
    TOKENS: tl.constexpr, BLOCK: tl.constexpr, COLS: tl.constexpr, CAPPED: tl.constexpr,
):  # fmt: skip
    """One tile of one KV head."""
    head = tl.program_id(0)
    tiles += tl.program_id(1) * COLS
    row, many, first_limit = tl.load(tiles + 1), tl.load(tiles + 2), tl.load(tiles + 4)
    sink, count, recent = tl.load(tiles + 5), tl.load(tiles + 6), tl.load(tiles + 7)
    tokens = req_to_token + tl.load(tiles).to(tl.int64) * stride_tokens
    chosen += (tl.load(tiles + 3) * KV + head).to(tl.int64) * stride_chosen
    m_ids, d_ids, ids = tl.arange(0, M), tl.arange(0, DP), tl.arange(0, TOKENS)
    query, g = m_ids // GP, m_ids % GP
    real = (query < many) & (g < G)
    skipped = recent - sink - count
    limit = first_limit - skipped + tl.where(real, query, 0)  # of visible tokens, that a query sees
    hi = first_limit - skipped + many - 1
    q_line = (((row + query) * KV + head) * G + g).to(tl.int64)
    there = within(real[:, None], d_ids, D, DP)
    q = tl.load(q_ptr + q_line[:, None] * D + d_ids[None, :], mask=there, other=0.0)
    best = tl.full([M], EMPTY, tl.float32)
    total = tl.zeros([M], tl.float32)
    if sinks is not None:
        best = tl.load(sinks + head * G + g, mask=real, other=0.0).to(tl.float32) * LOG2E
        total += 1.0
    acc = tl.zeros([M, DP], tl.float32)
    whole = (first_limit - skipped) // TOKENS * TOKENS  # every query sees these
    for masked in tl.static_range(2):
        for start in range(whole if masked else 0, hi if masked else whole, TOKENS):
            i = start + ids
            slot = _visible_slots(tokens, chosen, i, hi, sink, count, recent, BLOCK)
            best, total, acc, _, _, _ = take(
                q, k_ptr, v_ptr, slot, i, hi, limit, head, scale, cap, best, total, acc, KV, D, DP, CAPPED, masked
            )
    result = acc / total[:, None] * v_scale
    tl.store(out + q_line[:, None] * D + d_ids[None, :], result.to(out.dtype.element_ty), mask=there)


def attend_groups(
    q: Tensor,
    keys: Tensor,
    values: Tensor,
    req_to_token: Tensor,
    tiles: Tensor,
    chosen: Tensor,
    scoring: Scoring,
    out: Tensor,
    tile: int,
) -> None:
    """Of one layer.

    q, out: [n, heads, D]; the tiles' rows of `out` are written. keys, values: the layer's pool, [slots, KV, D].
    req_to_token: int32 [lines, tokens]. tiles: int32 [tiles, COLUMNS]. chosen: int32 [groups, KV, blocks], numbers of
    blocks of BLOCK_TOKENS tokens. tile: query heads of a tile.
    """
    _, heads, dim = q.shape
    kv_heads = keys.shape[1]
    group = heads // kv_heads
    padded = triton.next_power_of_2(group)
    _attend_groups[(kv_heads, tiles.shape[0])](
        q, keys, values, req_to_token, tiles, chosen, scoring.sinks, out, v_scale=scoring.v_scale,
        stride_tokens=req_to_token.stride(0), stride_chosen=chosen.stride(1), KV=kv_heads, G=group, GP=padded,
        M=tile, D=dim, DP=triton.next_power_of_2(dim), TOKENS=GROUPS.tokens(dim), BLOCK=BLOCK_TOKENS,
        COLS=COLUMNS, num_warps=GROUPS.warps, num_stages=GROUPS.stages, **logit_arguments(scoring),
    )  # fmt: skip


def group_tiles(
    line: int, rows: range, limit: int, first_group: int, group: int, ends: tuple[int, int, int], queries: int
) -> list[list[int]]:
    """Of one prompt. rows: its rows of q in groups of `group`, the first one `first_group`. limit: tokens of the
    context that the first row sees. ends: sink tokens, chosen ones, position of the first recent one. queries: of a
    tile, of each query head."""
    tiles = list[list[int]]()
    for number, start in enumerate(range(0, len(rows), group)):
        end = min(start + group, len(rows))
        for at in range(start, end, queries):
            tiles.append([line, rows[at], min(queries, end - at), first_group + number, limit + at, *ends])
    return tiles
