"""The Selector: from attention evidence to the positions a KV head keeps.

Every stage is a pure function over float32 tensors whose last axis is the candidates, `n` tokens in order of position;
the axes before it are free (layers, rows) except that `exclude` reads the KV heads from axis -2. Scores are log-space.
Candidates are contiguous unless their `positions` are given; then windows reach over positions, not over slots.
Source: arXiv 2603.12038, Selector; `span` is this project's (see README, "Why spans").
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from sfi_sglang.options import SelectorOptions

AGREEMENT_ALPHA = 0.5  # power-mean exponent: below 1 favours tokens that several queries agree on
PRIOR_WEIGHT, PRIOR_POWER, PRIOR_ETA = 0.7, 1.8, 0.4
PRIOR_BETA = -math.log(0.6) / 0.9
NMS_STRENGTH, NMS_RADIUS = 1.0, 16
EXCLUSION_STRENGTH, EXCLUSION_TEMPERATURE = 0.85, 2.0
SPAN_AHEAD, SPAN_BEHIND = 16, 2
TINY = 1e-12


def attention_logits(q: Tensor, k: Tensor, scale: float) -> Tensor:
    """Scaled scores of every evidence row: q [KV, R, D], k [KV, L, D] -> float32 [KV, R, L]."""
    return torch.matmul(q.float() * scale, k.float().transpose(-1, -2))


def power_mean(log_p: Tensor, stages: SelectorOptions) -> Tensor:
    """Merge R evidence rows: log_p [..., R, n] -> normalised log scores [..., n]. Without the `agreement` stage it is
    the plain mean: the last prompt query alone may keep the token that it needs."""
    alpha = AGREEMENT_ALPHA if stages.agreement else 1.0
    rows = log_p.shape[-2]
    merged = (torch.logsumexp(alpha * log_p, dim=-2) - math.log(rows)) / alpha
    return merged.log_softmax(-1)


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


def suppress(scores: Tensor, positions: Tensor | None = None) -> Tensor:
    """Soft non-maximum suppression: a token pays for the margin by which a neighbour beats it."""
    margin = _windowed_max(scores, NMS_RADIUS, NMS_RADIUS, positions) - scores
    return scores - NMS_STRENGTH * margin.nan_to_num(nan=0.0)  # -inf - -inf: an empty slot among empty slots


def exclude(scores: Tensor) -> Tensor:
    """Cross-head exclusion over axis -2: a token counts for less where other KV heads want it more."""
    if scores.shape[-2] <= 2:
        return scores
    share = (scores / EXCLUSION_TEMPERATURE).log_softmax(-2)
    return scores + EXCLUSION_STRENGTH * share


def span(scores: Tensor, positions: Tensor | None = None) -> Tensor:
    """A chosen token brings the SPAN_AHEAD tokens after it and SPAN_BEHIND before it, so that a copy can walk on."""
    return _windowed_max(scores, SPAN_AHEAD, SPAN_BEHIND, positions)


def top_positions(scores: Tensor, k: int) -> Tensor:
    """Indices of the k best scores [..., n] -> int64 [..., min(k, n)], ascending. Of equal scores the earlier position
    wins, so the choice does not depend on the order a top-k happens to visit."""
    n = scores.shape[-1]
    if k >= n:
        return torch.arange(n, device=scores.device).expand(*scores.shape[:-1], n)
    if k <= 0:
        return torch.empty(*scores.shape[:-1], 0, dtype=torch.int64, device=scores.device)
    threshold = scores.topk(k, dim=-1, sorted=False).values.amin(-1, keepdim=True)
    above, equal = scores > threshold, scores == threshold
    spare = k - above.sum(-1, keepdim=True)
    chosen = above | (equal & (equal.cumsum(-1) <= spare))
    return chosen.nonzero()[:, -1].view(*scores.shape[:-1], k)


def score(log_f: Tensor, rows: int, stages: SelectorOptions, positions: Tensor | None = None) -> Tensor:
    """All stages but the top-k: merged evidence [..., KV, n] from `rows` evidence rows -> scores [..., KV, n]. With
    `positions` the heads' candidates differ, so prior and exclusion, which compare tokens across them, are left out."""
    scores = log_f
    if stages.prior and positions is None:
        scores = fuse(log_f, prior(log_f.shape[-1], log_f.device), 0.25 if rows > 1 else 0.35)
    if stages.nms:
        scores = suppress(scores, positions)
    if stages.exclusion and positions is None:
        scores = exclude(scores)
    if stages.span:
        scores = span(scores, positions)
    return scores


def select(log_f: Tensor, rows: int, k: int, stages: SelectorOptions, positions: Tensor | None = None) -> Tensor:
    """Candidates to keep: [..., KV, n] -> int64 [..., KV, min(k, n)], ascending: indices, or `positions` if given."""
    picks = top_positions(score(log_f, rows, stages, positions), k)
    return picks if positions is None else positions.gather(-1, picks)


def _windowed_max(scores: Tensor, before: int, after: int, positions: Tensor | None = None) -> Tensor:
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
