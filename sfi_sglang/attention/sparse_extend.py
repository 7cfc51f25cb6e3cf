"""Sparse extend in plain torch: new tokens of a prompt attend to a part of a long cached prefix.

Slow-fast inference along the prompt. The mean query of every `group` new tokens is compared with the whole prefix, and
what it attends to most is chosen for them. The group sees sink, chosen and recent tokens of the prefix, and the new
tokens before each. The last `tail` tokens are dense: they begin the reply. What a token sees never depends on later
groups.

A request gets `Sparsity.of`. The other settings are what benchmarks/sparse_extend.py compares it with.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from sfi_sglang.api.options import SelectorOptions, SFIOptions
from sfi_sglang.attention.reference import extend, grouped_queries
from sfi_sglang.selection.reuse import MERGE_BONUS
from sfi_sglang.selection.scoring import Scoring
from sfi_sglang.selection.selector import attention_logits, power_mean, score, top_positions


@dataclass(frozen=True)
class Sparsity:
    """budget, sink, recent: tokens of the prefix that a fast token sees, per KV head.
    group: new tokens that share a choice. tail: last ones, dense.
    block: choose whole blocks of so many tokens by their mass; 0: single tokens through `selector`.
    mean: does the mean query of a group choose? Else its first one.
    evidence: does any? Else the inherited memory alone is seen.
    dense: does the first token of a group see everything? With delta, its group is given what that one would have lost
    by the choice (arXiv 2505.11254).
    """

    budget: int
    sink: int = 4
    recent: int = 256
    group: int = 64
    tail: int = 16
    block: int = 0
    mean: bool = True
    evidence: bool = True
    dense: bool = False
    delta: bool = False
    selector: SelectorOptions = field(default_factory=SelectorOptions)

    @classmethod
    def of(cls, options: SFIOptions, tail: int) -> "Sparsity":
        """Of a request. tail: last tokens of the pass, dense. What was tried beside it: docs/fidelity.md."""
        return cls(options.budget, options.sink, options.recent, tail=tail, block=32)

    def candidates(self, prefix: int) -> range:
        """Positions of the prefix to choose from, whole blocks of them; a block starts at a multiple of its size."""
        size = self.block or 1
        first = -(-self.sink // size) * size
        return range(first, max((prefix - self.recent) // size * size, first))

    def spares(self, prefix: int) -> bool:
        """Is there anything to leave out?"""
        return len(self.candidates(prefix)) > self.budget


def sparse_extend(
    q: Tensor, k: Tensor, v: Tensor, scoring: Scoring, how: Sparsity, inherited: Tensor | None = None
) -> Tensor:
    """The last n tokens of a context of L: q [n, heads, D], k and v [KV, L, D] -> [n, heads, Dv]. inherited: candidates
    [KV, c] that the last turn's memory holds."""
    n, prefix = q.shape[0], k.shape[1] - q.shape[0]
    sparse = n - how.tail
    if sparse <= 0 or not how.spares(prefix):
        return extend(q, k, v, scoring)
    first = torch.arange(0, sparse, how.group)
    asking = mean_queries(q[:sparse], how.group) if how.mean else q[first]
    chosen = choose(asking, k, prefix, scoring, how, inherited)
    slow = extend(q[first], k, v, scoring, prefix + first) if how.evidence and how.dense else None
    out = q.new_empty(n, q.shape[1], v.shape[-1])
    for number, start in enumerate(first.tolist()):
        end = min(start + how.group, sparse)
        visible = visible_positions(chosen[number], how, prefix, prefix + end)
        rows = visible.shape[-1] - end + torch.arange(start, end)
        fast = extend(q[start:end], take(k, visible), take(v, visible), scoring, rows)
        if slow is not None:
            lost = slow[number] - fast[0]
            fast = fast + lost if how.delta else torch.cat([slow[number, None], fast[1:]])
        out[start:end] = fast
    if how.tail:
        out[sparse:] = extend(q[sparse:], k, v, scoring)
    return out


def mean_queries(q: Tensor, group: int) -> Tensor:
    """Of every `group` queries of q [n, heads, D], the last one of what is left -> [n / group, heads, D]."""
    whole, rest = divmod(len(q), group)
    means = q[: whole * group].unflatten(0, (whole, group)).mean(1)
    return torch.cat([means, q[whole * group :].mean(0, keepdim=True)]) if rest else means


def choose(
    asking: Tensor, k: Tensor, prefix: int, scoring: Scoring, how: Sparsity, inherited: Tensor | None = None
) -> Tensor:
    """Positions [groups, KV, c] that each group sees beside sink and recent ones. asking: [groups, heads, D], the query
    of each that chooses."""
    kv_heads, candidates = k.shape[0], how.candidates(prefix)
    if not how.evidence:
        assert inherited is not None
        return inherited.expand(len(asking), -1, -1)
    keys = k[:, candidates.start : candidates.stop]
    logits = attention_logits(grouped_queries(asking, kv_heads), keys, scoring)
    by_group = logits.unflatten(1, (len(asking), -1)).transpose(0, 1)  # [groups, KV, G, candidates]
    scores = power_mean(by_group.log_softmax(-1), how.selector)
    if inherited is not None:
        places = inherited - candidates.start
        counts = (places >= 0) & (places < len(candidates))
        bonus = scores.new_zeros(scores.shape[1:])
        bonus.scatter_add_(-1, places.clamp(0, len(candidates) - 1), counts * MERGE_BONUS)
        scores = scores + bonus
    if how.block:
        mass = scores.unflatten(-1, (-1, how.block)).logsumexp(-1)
        picks = top_positions(mass, -(-how.budget // how.block))
        picks = (picks[..., None] * how.block + torch.arange(how.block, device=k.device)).flatten(-2)
    else:
        picks = top_positions(score(scores, by_group.shape[2], how.selector), how.budget)
    return candidates.start + picks


def visible_positions(chosen: Tensor, how: Sparsity, prefix: int, end: int) -> Tensor:
    """What a group sees, ascending from the recent tokens on: chosen [KV, c] -> [KV, m], up to position `end`."""
    candidates = how.candidates(prefix)
    fixed = [torch.arange(candidates.start), torch.arange(candidates.stop, end)]
    sink, rest = (part.to(chosen.device).expand(chosen.shape[0], -1) for part in fixed)
    return torch.cat([sink, chosen, rest], -1)


def take(x: Tensor, positions: Tensor) -> Tensor:
    """Keys or values [KV, L, D] at positions [KV, m] -> [KV, m, D]."""
    return x.gather(1, positions[..., None].expand(-1, -1, x.shape[-1]))
