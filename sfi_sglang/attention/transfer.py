"""From the host to the device, while passes are under way."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def to_device(values: Tensor | Sequence[int], device: Any) -> Tensor:
    """A tensor, or integers as int64, on the device. A copy from memory that is not pinned would wait for the passes
    under way; each call pins a fresh block, because an earlier copy may still be one of them."""
    host = values if isinstance(values, Tensor) else torch.tensor(values, dtype=torch.int64)
    if torch.device(device).type == "cuda":
        host = host.pin_memory()
    return host.to(device, non_blocking=True)
