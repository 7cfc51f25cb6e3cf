"""Programmatic dependent launch: on Hopper and later a kernel of a chain starts while the one before it still drains.

What a kernel reads ahead of `chained` must be older than its predecessor: the row metadata and SGLang's tables.
"""

from typing import Any

import torch
import triton
import triton.language as tl

_ON = torch.cuda.is_available() and torch.version.hip is None and torch.cuda.get_device_capability()[0] >= 9
CHAINED: dict[str, Any] = {"CHAINED": True, "launch_pdl": True} if _ON else {"CHAINED": False}


@triton.jit
def chained(CHAINED: tl.constexpr):
    """Let the next kernel's programs in, then wait for the previous kernel's results. Every program must pass here."""
    if CHAINED:
        tl.extra.cuda.gdc_launch_dependents()
        tl.extra.cuda.gdc_wait()
