"""The Selector's stages between merged evidence and top-k: one record each, in the order in which they run."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sfi_sglang.api.options import SelectorOptions

AGREEMENT_ALPHA = 0.5  # power-mean exponent: below 1 favours tokens that several queries agree on
PRIOR_WEIGHT, PRIOR_POWER, PRIOR_ETA = 0.7, 1.8, 0.4
PRIOR_BETA = -math.log(0.6) / 0.9
NMS_STRENGTH, NMS_RADIUS = 1.0, 16
EXCLUSION_STRENGTH, EXCLUSION_TEMPERATURE = 0.85, 2.0
SPAN_BEHIND = 2
WIDTH_BIT = 8  # of a mask of stages: the span's width lies there, a multiple of 4
TINY = 1e-12


@dataclass(frozen=True)
class Evidence:
    """What a stage may know beside the scores. rows: queries that were merged per KV head. positions: of the
    candidates [..., KV, n], ascending, where they are not contiguous. width: of the span."""

    rows: int
    positions: Tensor | None = None
    width: int = 32


@dataclass(frozen=True)
class Stage:
    """name: the option's. bit: tells the kernels that a row runs it. apply: the reference, scores [..., KV, n] and
    evidence -> scores; None for `agreement`, which acts while the rows are merged."""

    name: str
    bit: int
    apply: Callable[[Tensor, Evidence], Tensor] | None = None


def fuse_prior(scores: Tensor, evidence: Evidence) -> Tensor:
    """Mix the positional prior in. Heads with candidates of their own have no common position: left out."""
    if evidence.positions is not None:
        return scores
    return fuse(scores, prior(scores.shape[-1], scores.device), 0.25 if evidence.rows > 1 else 0.35)


def prior(n: int, device: torch.device | str = "cpu") -> Tensor:
    """Positional log prior [n]: rises towards the recent end, falls off just before it. The paper's key-norm term has
    weight zero (gamma = 0) and is left out."""
    x = torch.arange(n, dtype=torch.float32, device=device) / max(n - 1, 1)
    shape = -PRIOR_BETA * x**PRIOR_POWER + PRIOR_ETA * torch.log((1 - x).clamp_min(1e-6))
    return (PRIOR_WEIGHT * shape).log_softmax(-1)


def fuse(log_f: Tensor, log_r: Tensor, max_weight: float) -> Tensor:
    """Mix evidence [..., n] with the prior [n] by the least-squares weight, clamped to [0, max_weight]."""
    f, r = log_f.exp(), log_r.exp()
    distance = (f - r).square().sum(-1).clamp_min(TINY)
    weight = (((f * f).sum(-1) - (f * r).sum(-1)) / distance).clamp(0.0, max_weight)[..., None]
    return torch.log((1 - weight) * f + weight * r + TINY)


def suppress(scores: Tensor, evidence: Evidence) -> Tensor:
    """Soft non-maximum suppression: a token pays for the margin by which a neighbour beats it."""
    margin = windowed_max(scores, NMS_RADIUS, NMS_RADIUS, evidence.positions) - scores
    return scores - NMS_STRENGTH * margin.nan_to_num(nan=0.0)  # -inf - -inf: an empty slot among empty slots


def exclude(scores: Tensor, evidence: Evidence) -> Tensor:
    """Cross-head exclusion over axis -2: a token counts for less where other KV heads want it more. Heads with
    candidates of their own do not compete: left out."""
    if scores.shape[-2] <= 2 or evidence.positions is not None:
        return scores
    share = (scores / EXCLUSION_TEMPERATURE).log_softmax(-2)
    return scores + EXCLUSION_STRENGTH * share


def span(scores: Tensor, evidence: Evidence) -> Tensor:
    """A chosen token brings the `width` tokens after it and SPAN_BEHIND before it, so that a copy can walk on."""
    return windowed_max(scores, evidence.width, SPAN_BEHIND, evidence.positions)


def windowed_max(scores: Tensor, before: int, after: int, positions: Tensor | None = None) -> Tensor:
    """out[j] = max of the scores whose position lies in [position_j - before, position_j + after]."""
    n = scores.shape[-1]
    if n == 0:
        return scores
    if positions is None:
        padded = F.pad(scores.reshape(-1, 1, n), (before, after), value=-math.inf)
        return F.max_pool1d(padded, before + after + 1, stride=1).view(scores.shape)
    out = scores.clone()
    for step in range(1, min(max(before, after), n - 1) + 1):  # positions ascend: no neighbour is more slots away
        near = positions[..., step:] - positions[..., :-step]
        later, earlier = out[..., step:], out[..., :-step]
        torch.where(near.abs() <= before, torch.maximum(later, scores[..., :-step]), later, out=later)
        torch.where(near.abs() <= after, torch.maximum(earlier, scores[..., step:]), earlier, out=earlier)
    return out


STAGES = (
    Stage("agreement", 1),
    Stage("prior", 2, fuse_prior),
    Stage("nms", 4, suppress),
    Stage("exclusion", 8, exclude),
    Stage("span", 16, span),
)


def stage_mask(options: SelectorOptions) -> int:
    """The bits of the stages that are on, and the span's width."""
    chosen = options.stages()
    return sum(stage.bit for stage in STAGES if stage.name in chosen) | options.span << WIDTH_BIT
