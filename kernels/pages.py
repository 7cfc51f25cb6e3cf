"""Sparse extend: the KV slots of chosen blocks, as pages of a table that FlashAttention reads."""

import triton
import triton.language as tl
from torch import Tensor

from sfi_sglang.kernels.block_mass import BLOCK_TOKENS

CHUNK = 512


@triton.jit(do_not_specialize=["groups", "width", "stride_chosen"])
def _page_chosen(
    table, chosen, req_to_token, choices, groups, width, stride_tokens, stride_chosen,
    KV: tl.constexpr, BLOCK: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    """CHUNK tokens of one group of one KV head."""
    group, head = tl.program_id(0), tl.program_id(1)
    choices += group * 3
    line, sink, blocks = tl.load(choices), tl.load(choices + 1), tl.load(choices + 2)
    i = tl.program_id(2) * CHUNK + tl.arange(0, CHUNK)
    inside = i < blocks * BLOCK
    block = tl.load(chosen + (group * KV + head).to(tl.int64) * stride_chosen + i // BLOCK, mask=inside, other=0)
    position = block * BLOCK + i % BLOCK
    slot = tl.load(req_to_token + line.to(tl.int64) * stride_tokens + position, mask=inside, other=0)
    own = table + (head * groups + group).to(tl.int64) * width + sink
    tl.store(own + i, slot * KV + head, mask=inside)


def page_chosen(table: Tensor, chosen: Tensor, req_to_token: Tensor, choices: Tensor) -> None:
    """table: int32 [KV, groups, width], whose columns after `sink` are written. chosen: int32 [groups, KV, blocks].
    req_to_token: int32 [lines, tokens]. choices: int32 [groups, 3], line of req_to_token, sink tokens, blocks.

    A page is one head of one token: slot * KV + head.
    """
    kv_heads, groups, width = table.shape
    chunks = triton.cdiv(chosen.shape[2] * BLOCK_TOKENS, CHUNK)
    _page_chosen[(groups, kv_heads, chunks)](
        table, chosen, req_to_token, choices, groups, width, req_to_token.stride(0), chosen.stride(1),
        KV=kv_heads, BLOCK=BLOCK_TOKENS, CHUNK=CHUNK, num_warps=4,
    )  # fmt: skip
