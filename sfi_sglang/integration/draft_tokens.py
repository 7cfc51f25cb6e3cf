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
Copy = tuple[int, int, int]  # a draft found in the context: index of its request, position, id


class DraftTokens:
    """The last tokens of each line of req_to_token, at their position modulo WIDTH."""

    def allocate(self, lines: int, device: torch.device | str) -> None:
        self.ids = torch.zeros(lines, WIDTH, dtype=torch.int64, device=device)

    def note(self, lines: Tensor, positions: Tensor, ids: Tensor) -> None:
        self.ids[lines, positions % WIDTH] = ids

    def at(self, lines: Tensor, positions: Tensor) -> Tensor:
        return self.ids[lines, positions % WIDTH]

    def find_copies(self, batch: Any, settled: Sequence[int], tokens: Tensor) -> list[Copy]:
        """For the `exact` requests of a decode batch whose last pass was a verification, or a blind one after it.
        settled: tokens of each, the one that follows the verification included. tokens: [requests], those that come
        next into the model. Where drafts pass by lot: none."""
        states: list[Any] = [getattr(req, "sfi", None) for req in batch.reqs]
        drafting = [None if state is None else state.drafting for state in states]
        which = [i for i, each in enumerate(drafting) if each is not None and (each.verifying or each.blind)]
        if not which or chance() is not None:
            return []
        known = [len(batch.reqs[i].origin_input_ids) + len(batch.reqs[i].output_ids) for i in which]
        spans = [range(start, settled[i]) for start, i in zip(known, which, strict=True)]
        rows = to_device(which, tokens.device)
        lines = batch.req_pool_indices[rows]
        pending = torch.tensor([states[i].drafting.pending for i in which])
        self.note(lines, batch.seq_lens[rows] + to_device(pending, tokens.device), tokens[rows].long())
        copies: list[Copy] = []
        for i, tail in zip(which, self.on_host(lines, spans), strict=True):
            req, own = batch.reqs[i], states[i].drafting
            found = own.copying.find([req.origin_input_ids, req.output_ids, tail], MOST_DRAFTS)
            own.offer = len(found)
            copies += [(i, settled[i] + n, token) for n, token in enumerate(found)]
        return copies

    def note_copies(self, lines: Tensor, copies: Sequence[Copy]) -> None:
        """lines: of the batch's requests."""
        if copies:
            at, positions, ids = to_device(torch.tensor(copies).T.contiguous(), lines.device)
            self.note(lines[at], positions, ids)

    def on_host(self, lines: Tensor, spans: Sequence[range]) -> list[list[int]]:
        """Those at a span of positions of each line. Waits for the device if there are any."""
        if not any(map(len, spans)):
            return [[] for _ in spans]
        kept = self.ids[lines].tolist()
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
