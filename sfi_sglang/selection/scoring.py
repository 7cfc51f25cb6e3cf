"""How a layer turns q.k into attention weights, and stored keys and values into real ones."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Scoring:
    """scale: of the softmax.
    cap: logits become cap * tanh(logit / cap); 0: they stay.
    sinks: [heads of this rank], of each query head the logit of one token more, which takes attention and has
        no value (gpt-oss); nothing to do with the first tokens that SFI calls sink.
    k_scale, v_scale: of an FP8 pool, by which a stored key or value is multiplied.
    """

    scale: float
    cap: float = 0.0
    sinks: Tensor | None = None
    k_scale: float = 1.0
    v_scale: float = 1.0

    @classmethod
    def of(cls, layer: Any, fp8: bool, sinks: Tensor | None = None) -> "Scoring":
        """Of an SGLang RadixAttention layer (layers/radix_attention.py) whose weights are loaded. fp8: its keys and
        values are stored in 8 bits. A pool of 16 bits is written without their scales.

        Raises:
            ValueError: it caps its logits in a way that we do not know.
        """
        if layer.logit_cap > 0 and layer.logit_capping_method != "tanh":
            raise ValueError(f"sfi: the model caps its attention logits by {layer.logit_capping_method}, not by tanh")
        k_scale, v_scale = (layer.k_scale_float, layer.v_scale_float) if fp8 else (None, None)
        return cls(
            layer.scaling,
            max(layer.logit_cap, 0.0),
            sinks,
            1.0 if k_scale is None else k_scale,
            1.0 if v_scale is None else v_scale,
        )

    @property
    def bare(self) -> bool:
        """Is there a scale alone?"""
        return self.cap == 0 and self.sinks is None and self.k_scale == self.v_scale == 1

    @property
    def dot_scale(self) -> float:
        """From the dot product of a query and a stored key to a logit, before the cap."""
        return self.scale * self.k_scale

    def capped(self, logits: Tensor) -> Tensor:
        return self.cap * torch.tanh(logits / self.cap) if self.cap else logits
