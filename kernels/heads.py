"""Heads in Triton's tiles, whose sides are powers of two: a head's D numbers in a width of DP, and the query heads of a
KV head down the other side. Where D is a power of two, nothing is masked."""

import triton
import triton.language as tl


def queries_of_tile(tile: int, group: int) -> int:
    """Queries of a tile of `tile` query heads of one KV head. group: query heads per KV head."""
    return max(tile // triton.next_power_of_2(group), 1)


@triton.jit
def within(mask, d_ids, D: tl.constexpr, DP: tl.constexpr):
    """The mask of a tile [n, DP] of heads, from that of its lines [n, 1]. d_ids: [DP]."""
    if D != DP:
        mask = mask & (d_ids[None, :] < D)
    return mask


@triton.jit
def prefetch(pool, slot, head, KV: tl.constexpr, D: tl.constexpr, DP: tl.constexpr):
    """Ask the L2 cache for one head's numbers in some slots, line by line. It is coherent: what is written there later
    will be read."""
    line: tl.constexpr = 1024 // pool.dtype.element_ty.primitive_bitwidth  # numbers in a line of 128 bytes
    lines: tl.constexpr = DP // line if line < DP else 1
    number = tl.arange(0, lines) * line
    if D != DP:
        number = tl.minimum(number, D - 1)
    pointers = pool + ((slot[:, None] * KV + head) * D + number[None, :])
    tl.inline_asm_elementwise(
        "prefetch.global.L2 [$1]; mov.u32 $0, 0;", "=r,l", [pointers.to(tl.int64)], tl.int32, is_pure=False, pack=1
    )
