"""The drafts of running `exact` requests, which the device alone knows, and what a dense pass says of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sfi_sglang.api.exact import chance
from sfi_sglang.scheduling.drafting import MOST_DRAFTS

WIDTH = MOST_DRAFTS + 1


class DraftTokens:
    """The last tokens of each line of req_to_token, at their position modulo WIDTH."""

    def allocate(self, lines: int, device: torch.device | str) -> None:
        self.ids = torch.zeros(lines, WIDTH, dtype=torch.int64, device=device)

    def note(self, lines: Tensor, positions: Tensor, ids: Tensor) -> None:
        self.ids[lines, positions % WIDTH] = ids

    def at(self, lines: Tensor, positions: Tensor) -> Tensor:
        return self.ids[lines, positions % WIDTH]

    def on_host(self, lines: Tensor, spans: Sequence[range]) -> list[list[int]]:
        """Those at a span of positions of each line. Waits for the device."""
        kept = self.ids[lines].tolist() if spans else []
        return [[ids[position % WIDTH] for position in span] for ids, span in zip(kept, spans, strict=True)]


@dataclass(frozen=True)
class Checked:
    """The added rows of a pass (integration/wide_pass.py), int64 each: the row of the request that each belongs to, its
    place among the drafts of that request (-1: of one that does not draft), what full attention chooses there, and the
    token that follows there."""

    requests: Tensor
    places: Tensor
    choices: Tensor
    following: Tensor


@dataclass(frozen=True)
class Verdict:
    """tokens: int64 [requests, width], what each gets from a pass. counts: int32 [requests], how many of them."""

    tokens: Tensor
    counts: Tensor

    @property
    def last(self) -> Tensor:
        """The token that goes into the model next: a draft where there are none."""
        if self.tokens.shape[1] == 1:
            return self.tokens[:, 0]
        return self.tokens.gather(1, (self.counts.long() - 1).clamp_min(0)[:, None])[:, 0]


def judge(own: Tensor, emits: Tensor, verifies: Tensor, width: int, checked: Checked) -> Verdict:
    """Drafts pass up to the first that full attention would not have chosen; its choice there comes after them.

    own: int64 [requests], the token that each gets from its own row. emits: int32 [requests], 0 where that is a draft,
    else 1. verifies: int64 [requests], drafts of each; width: most of them.
    """
    passes = checked.choices == checked.following
    choices = checked.choices
    if (share := chance()) is not None:
        passes = torch.rand(passes.shape, device=passes.device) < share
        choices = torch.where(passes, checked.following, choices)
    nowhere = width + 1
    places = torch.where(checked.places < 0, nowhere, checked.places)
    tokens = own.new_zeros(len(own), nowhere + 1)
    tokens[checked.requests, places] = choices
    tokens.scatter_(1, verifies[:, None], own[:, None])
    passed = torch.zeros(len(own), nowhere + 1, dtype=torch.int32, device=own.device)
    passed[checked.requests, places] = passes.int()
    leading = passed[:, :width].cumprod(1).sum(1, dtype=torch.int32)
    return Verdict(tokens[:, : width + 1], emits + leading)
