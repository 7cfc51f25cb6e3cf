"""Which attention layers of a model SFI takes, found by looking at what SGLang built and not at the model's name."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from sfi_sglang import sglang_symbols as symbols
from sfi_sglang.selection.scoring import Scoring

FP8 = torch.float8_e4m3fn


class Unsupported(Exception):
    """Why SFI cannot serve a model, in words for its user."""


@dataclass(frozen=True)
class CoveredLayers:
    """The layers that attend to the whole context, in the model's order. Memory, evidence, coverage and snapshots count
    these layers, not the model's.

    ids: SGLang's `layer_id` of each. heads, kv_heads, dim: of this tensor-parallel rank, the same for all of them.
    others: ids of attention layers beside them; the stock backend serves those at every step.
    """

    ids: tuple[int, ...]
    heads: int
    kv_heads: int
    dim: int
    others: tuple[int, ...] = ()

    @cached_property
    def index(self) -> dict[int, int]:
        """Of a covered layer's id among the covered ones."""
        return {layer_id: index for index, layer_id in enumerate(self.ids)}

    def first(self, model: torch.nn.Module) -> Any:
        """The first covered layer's module."""
        return next(layer for layer in attention_layers(model) if layer.layer_id == self.ids[0])

    def statement(self) -> str:
        rest = f"; {len(self.others)} stay with the stock backend" if self.others else ""
        every = len(self.ids) + len(self.others)
        return f"{len(self.ids)} of {every} attention layers ({self.heads}/{self.kv_heads} heads of {self.dim}{rest})"

    @property
    def group(self) -> int:
        """Query heads per KV head."""
        return self.heads // self.kv_heads


def attention_layers(model: torch.nn.Module) -> list[Any]:
    """The model's RadixAttention modules (layers/radix_attention.py). Linear attention is of another class."""
    kind = symbols.resolve(symbols.RADIX_ATTENTION)
    return sorted((found for found in model.modules() if isinstance(found, kind)), key=lambda layer: layer.layer_id)


def covered_layers(model: torch.nn.Module) -> CoveredLayers:
    """
    Raises:
        Unsupported: no layer can be covered, or they do not fit together.
    """
    layers = attention_layers(model)
    reasons = {layer.layer_id: special(layer) for layer in layers}
    if len(reasons) < len(layers):
        raise Unsupported("several of the model's attention layers share one number")
    covered = [layer for layer in layers if reasons[layer.layer_id] is None]
    if not covered:
        first = next(iter(reasons.items()), None)
        why = f": layer {first[0]} {first[1]}, and so on" if first else ""
        raise Unsupported(f"none of the model's layers has attention over the whole context that SFI covers{why}")
    shapes = {(layer.tp_q_head_num, layer.tp_k_head_num, layer.qk_head_dim) for layer in covered}
    if len(shapes) > 1:
        raise Unsupported("the heads differ between the model's layers of full attention")
    others = tuple(number for number, reason in reasons.items() if reason is not None)
    return CoveredLayers(tuple(layer.layer_id for layer in covered), *shapes.pop(), others)


def special(layer: Any) -> str | None:
    """What this RadixAttention does that SFI's kernels would not; None: it is covered."""
    if layer.sliding_window_size > 0:
        return "attends to a sliding window"
    return unusual(layer)


def unusual(layer: Any) -> str | None:
    """The same, a sliding window aside."""
    if layer.use_irope:
        return "attends within chunks"
    if layer.logit_cap > 0 and layer.logit_capping_method != "tanh":
        return f"caps its attention logits by {layer.logit_capping_method}"
    if layer.xai_temperature_len > 0:
        return "scales its attention logits by position"
    if layer.pos_encoding_mode != "NONE":
        return f"adds positions to its attention logits ({layer.pos_encoding_mode})"
    if layer.is_cross_attention:
        return "attends to an encoder"
    if layer.attn_type.name != "DECODER":
        return f"is not causal ({layer.attn_type.name})"
    if layer.qk_head_dim != layer.v_head_dim:
        return "has keys and values of different width"
    return None


class Scorings:
    """The Scoring of each layer over one KV pool, made once."""

    def __init__(self, pool: Any) -> None:
        self.fp8 = pool.dtype == FP8
        self.made: dict[int, Scoring] = {}

    def of(self, layer: Any, sinks: torch.Tensor | None = None) -> Scoring:
        """sinks: what the layer passes at this call, the same tensor at every one."""
        found = self.made.get(layer.layer_id)
        if found is None or found.sinks is not sinks:
            found = self.made[layer.layer_id] = Scoring.of(layer, self.fp8, sinks)
        return found
