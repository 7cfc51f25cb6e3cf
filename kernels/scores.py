"""From the dot product of a query and a stored key to a logit, for every kernel that makes logits. They are base 2: one
factor less in every exponential."""

import triton
import triton.language as tl

from sfi_sglang.selection.scoring import Scoring

LOG2E = tl.constexpr(1.4426950408889634)


@triton.jit
def log2_logits(dots, scale, cap, CAPPED: tl.constexpr):
    """Base-2 logits of dot products of any shape. scale, cap: as `logit_arguments` has them."""
    if CAPPED:  # cap * tanh(x); where the exponential overflows, the quotient is the 0 that it should be
        return cap - 2.0 * cap / (1.0 + tl.exp2(dots * scale))
    else:
        return dots * scale


def logit_arguments(scoring: Scoring) -> dict[str, float | bool]:
    """The arguments of `log2_logits`, and of kernels that call it."""
    scale = scoring.dot_scale * LOG2E.value
    if scoring.cap:
        return {"scale": 2.0 * scale / scoring.cap, "cap": scoring.cap * LOG2E.value, "CAPPED": True}
    return {"scale": scale, "cap": 0.0, "CAPPED": False}
