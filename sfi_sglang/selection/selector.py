"""The Selector: from attention evidence to the positions a KV head keeps.

Every step is a pure function over float32 tensors whose last axis is the candidates, `n` tokens in order of position;
the axes before it are free (layers, rows) except that `exclude` reads the KV heads from axis -2. Scores are log-space.
Candidates are contiguous unless their `positions` are given; then windows reach over positions, not over slots.
Source: arXiv 2603.12038, Selector; the `span` stage is this project's (docs/design.md).
"""

import math

import torch
from torch import Tensor

from sfi_sglang.api.options import SelectorOptions
from sfi_sglang.selection.scoring import Scoring
from sfi_sglang.selection.stages import AGREEMENT_ALPHA, STAGES, Evidence


def attention_logits(q: Tensor, k: Tensor, scoring: Scoring) -> Tensor:
    """Scores of every evidence row: q [KV, R, D], stored keys k [KV, L, D] -> float32 [KV, R, L]."""
    return scoring.capped(torch.matmul(q.float() * scoring.dot_scale, k.float().transpose(-1, -2)))


def power_mean(log_p: Tensor, options: SelectorOptions) -> Tensor:
    """Merge R evidence rows: log_p [..., R, n] -> normalised log scores [..., n]. Without the `agreement` stage it is
    the plain mean: the last prompt query alone may keep the token that it needs."""
    alpha = AGREEMENT_ALPHA if options.agreement else 1.0
    rows = log_p.shape[-2]
    merged = (torch.logsumexp(alpha * log_p, dim=-2) - math.log(rows)) / alpha
    return merged.log_softmax(-1)


def score(log_f: Tensor, rows: int, options: SelectorOptions, positions: Tensor | None = None) -> Tensor:
    """All stages but the top-k: merged evidence [..., KV, n] from `rows` evidence rows -> scores [..., KV, n]."""
    scores, chosen, evidence = log_f, options.stages(), Evidence(rows, positions, options.span)
    for stage in STAGES:
        if stage.apply is not None and stage.name in chosen:
            scores = stage.apply(scores, evidence)
    return scores


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


def select(log_f: Tensor, rows: int, k: int, options: SelectorOptions, positions: Tensor | None = None) -> Tensor:
    """Candidates to keep: [..., KV, n] -> int64 [..., KV, min(k, n)], ascending: indices, or `positions` if given."""
    picks = top_positions(score(log_f, rows, options, positions), k)
    return picks if positions is None else positions.gather(-1, picks)
