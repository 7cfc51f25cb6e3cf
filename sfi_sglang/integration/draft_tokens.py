"""The drafts of running `exact` requests, which the device alone knows, and what a dense pass says of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sfi_sglang.api.exact import chance
from sfi_sglang.attention.transfer import to_device
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

    def offer_copies(self, batch: Any, settled: Sequence[int], tokens: Tensor) -> None:
        """To the `exact` requests of a decode batch whose last pass was a verification. settled: tokens of each, the
        one that comes next into the model included, which is in `tokens` [requests]. Where drafts pass by lot: none."""
        states: list[Any] = [getattr(req, "sfi", None) for req in batch.reqs]
        which = [i for i, state in enumerate(states) if state is not None and state.drafting.verifying]
        if not which or chance() is not None:
            return
        rows = to_device(which, tokens.device)
        lines = batch.req_pool_indices[rows]
        self.note(lines, batch.seq_lens[rows], tokens[rows].long())
        known = [len(batch.reqs[i].origin_input_ids) + len(batch.reqs[i].output_ids) for i in which]
        tails = self.on_host(lines, [range(start, settled[i]) for start, i in zip(known, which, strict=True)])
        put: list[tuple[int, int, int]] = []
        for row, (i, tail) in enumerate(zip(which, tails, strict=True)):
            req, drafting = batch.reqs[i], states[i].drafting
            found = drafting.copying.find([req.origin_input_ids, req.output_ids, tail], MOST_DRAFTS)
            drafting.offer = len(found)
            put += [(row, settled[i] + n, token) for n, token in enumerate(found)]
        if put:
            at, positions, ids = to_device(torch.tensor(put).T.contiguous(), tokens.device)
            self.note(lines[at], positions, ids)

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
