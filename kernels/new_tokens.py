"""The new token of each row: the attention kernel of fast passes puts its key and value into the pool itself, so that a
layer has one launch less. A row reads nothing else that its pass writes."""

from dataclasses import dataclass
from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from sfi_sglang.kernels.scores import log2_logits

NONE: dict[str, Any] = {"new_k": None, "new_v": None, "new_slots": None, "stride_new_k": 0, "stride_new_v": 0}


@dataclass(frozen=True)
class NewTokens:
    """keys, values: [rows, KV, D] of the pool's type, any row stride. slots: integer [rows], where they belong."""

    keys: Tensor
    values: Tensor
    slots: Tensor

    @property
    def arguments(self) -> dict[str, Any]:
        """Of a kernel."""
        strides = {"stride_new_k": self.keys.stride(0), "stride_new_v": self.values.stride(0)}
        return {"new_k": self.keys, "new_v": self.values, "new_slots": self.slots, **strides}


@triton.jit
def load_new(
    new_k, new_v, new_slots, stride_new_k, stride_new_v, row, head, mine,
    KV: tl.constexpr, D: tl.constexpr, DP: tl.constexpr,
):  # fmt: skip
    """Key and value [DP] of a row's new token in one KV head, zeros where not `mine`, and where they belong."""
    d_ids = tl.arange(0, DP)
    there = (d_ids < D) & mine
    k = tl.load(new_k + row * stride_new_k + head * D + d_ids, mask=there, other=0.0)
    v = tl.load(new_v + row * stride_new_v + head * D + d_ids, mask=there, other=0.0)
    return k, v, (tl.load(new_slots + row).to(tl.int64) * KV + head) * D


@triton.jit
def take_new(
    k_ptr, v_ptr, q, own, scale, cap, best, total, acc, D: tl.constexpr, DP: tl.constexpr, CAPPED: tl.constexpr
):  # fmt: skip
    """Add that token, as `load_new` told it, to the running softmax of the query heads [M]; put it into the pool. Not
    earlier: the other tokens' loads would wait for this one's."""
    k, v, at = own
    qk = log2_logits(tl.sum(q.to(tl.float32) * k.to(tl.float32)[None, :], 1), scale, cap, CAPPED)
    new_best = tl.maximum(best, qk)
    p, shrink = tl.exp2(qk - new_best), tl.exp2(best - new_best)
    d_ids = tl.arange(0, DP)
    tl.store(k_ptr + at + d_ids, k, mask=d_ids < D)
    tl.store(v_ptr + at + d_ids, v, mask=d_ids < D)
    return new_best, total * shrink + p, acc * shrink[:, None] + p[:, None] * v.to(tl.float32)[None, :]
