"""A draw that comes out alike for a draft and for the row that verifies it.

Both draw the token that maximises log-probability plus Gumbel noise, and the noise hangs on the request's seed, the
position and the token alone. So what is drawn under full attention's probabilities never depends on the draft, and a
draft passes if it is the same token: where the distributions are `d` apart (total variation), with a chance of at least
(1 - d) / (1 + d) (Daliri, Musco and Suresh, arXiv 2408.07978). Neither distributions of drafts nor second draws are
needed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sfi_sglang.attention.transfer import to_device

ALL_TOKENS = 1 << 30  # SGLang's top_k of a request that names none


def mixed(bits: Tensor) -> Tensor:
    """int64, each bit of the result depending on each of the argument: the finaliser of SplitMix64 (Steele, Lea and
    Flood, OOPSLA 2014)."""
    for shift, factor in ((30, -0x40A7B892E31B1A47), (27, -0x6B2FB644ECCEEE15)):
        bits = (bits ^ shifted(bits, shift)) * factor
    return bits ^ shifted(bits, 31)


def shifted(bits: Tensor, by: int) -> Tensor:
    """To the right, with zeros from the left."""
    return (bits >> by) & ((1 << (64 - by)) - 1)


def gumbel(seeds: Tensor, positions: Tensor, ids: Tensor) -> Tensor:
    """Noise, float64 [n, tokens]. seeds, positions: int64 [n]. ids: int64 [n or 1, tokens]."""
    bits = mixed(mixed(mixed(seeds) + positions)[:, None] + ids)
    uniform = (shifted(bits, 11).double() + 0.5) / 2**53
    return -torch.log(-torch.log(uniform))


@dataclass(frozen=True)
class Drawing:
    """How rows draw. [n] each: temperatures, top_ps, min_ps float32; top_ks, seeds, positions int64. A row with top_k
    1 takes the likeliest token.

    filters: does any row leave tokens out?
    """

    temperatures: Tensor
    top_ks: Tensor
    top_ps: Tensor
    min_ps: Tensor
    seeds: Tensor
    positions: Tensor
    filters: bool

    @classmethod
    def of(cls, params: Sequence[Any], seeds: Sequence[int], positions: Sequence[int], device: Any) -> "Drawing":
        """params: SGLang's SamplingParams of each row."""
        shares = torch.tensor([(p.temperature, p.top_p, p.min_p) for p in params], dtype=torch.float32).T.contiguous()
        counts = torch.tensor([[p.top_k for p in params], seeds, positions])
        temperatures, top_ps, min_ps = to_device(shares, device)
        top_ks, seeds_, positions_ = to_device(counts, device)
        filters = any(p.top_p < 1 or p.min_p > 0 or p.top_k < ALL_TOKENS for p in params)
        return cls(temperatures, top_ks, top_ps, min_ps, seeds_, positions_, filters)

    def draw(self, logits: Tensor) -> Tensor:
        """int64 [n] from logits [n, vocabulary]. Which tokens top-k, top-p and min-p leave is decided as in SGLang's
        `top_k_top_p_min_p_sampling_from_probs_torch` (srt/layers/sampler.py): each by the whole distribution."""
        chances = torch.softmax(logits.float() / self.temperatures[:, None], -1)
        ids = torch.arange(logits.shape[-1], device=logits.device)[None]
        if self.filters:
            ranks = ids
            chances, ids = chances.sort(dim=-1, descending=True, stable=True)
            before = chances.cumsum(-1) - chances
            kept = (ranks < self.top_ks[:, None]) & (before <= self.top_ps[:, None])
            kept &= chances >= chances[:, :1] * self.min_ps[:, None]
            chances = chances.masked_fill(~kept, 0)
        scores = chances.double().log() + gumbel(self.seeds, self.positions, ids)
        best = scores.argmax(-1, keepdim=True)
        return ids.expand_as(scores).gather(1, best)[:, 0]
