"""Where a running request's selected positions are: a tensor of its own (torch), or a line of a table (Triton).

Positions, never KV slots: SGLang rewrites the slots of a running request when a published prefix is deduplicated.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from sfi_sglang.selection.limits import Limits
from sfi_sglang.selection.snapshot_store import Snapshot

NO_LINE = (
    "sfi: as many SFI requests run as this server set memory aside for; try again when one has ended, or start it with "
    "a lower --sfi-max-budget or --mem-fraction-static"
)
RING = 4  # last sums of coverage and recall that a request keeps: more than steps may be under way


class Selection(Protocol):
    """The selected positions of one request in all layers and KV heads, ascending, all in [sink, recent_start)."""

    def coverage(self, known: int) -> Tensor:
        """Coverage and recall summed over the first `known` refreshes that had an old selection, at least one; float32
        [layers, KV heads, 2], on the host."""

    def read(self, number: Tensor) -> int:
        """A number that a finished pass of this request left on the device."""

    def snapshot(self, count: int, first: int, covered: int, blocks: tuple[bytes, ...]) -> Snapshot:
        """For the store: the first `count` positions, never written again."""

    def release(self) -> None:
        """The request has left."""


@dataclass(frozen=True)
class HostSelection:
    """positions: int64 [layers, KV heads, n]. coverages: and recalls [layers, KV heads, 2], of each refresh that had an
    old selection."""

    positions: Tensor
    coverages: tuple[Tensor, ...] = ()

    def coverage(self, known: int) -> Tensor:
        return torch.stack(self.coverages[:known]).sum(0).cpu()

    def read(self, number: Tensor) -> int:
        return int(number)

    def snapshot(self, count: int, first: int, covered: int, blocks: tuple[bytes, ...]) -> Snapshot:
        return Snapshot(self.positions[..., :count].int(), first, covered, blocks)

    def release(self) -> None:
        pass


class SelectionTable:
    """Selected positions of the running SFI requests, int32 [requests, layers, KV heads, budget], and the KV slots that
    they have in the step at hand."""

    def __init__(self, limits: Limits, device: torch.device | str) -> None:
        line = (limits.layers, limits.kv_heads, limits.budget)
        self.positions = torch.zeros(limits.requests, *line, dtype=torch.int32, device=device)
        self.slots = torch.zeros_like(self.positions)
        self.coverage = torch.zeros(limits.requests, RING, *line[:2], 2, device=device)  # see kernels/coverage.py
        self.free = list(range(limits.requests))[::-1]
        self.stream: torch.cuda.Stream | None = None  # of the forward passes
        self.reader = torch.cuda.Stream(device) if self.positions.is_cuda else None

    def follow_stream(self) -> None:
        """Remember the stream of the pass being prepared: the lines are written there."""
        if self.positions.is_cuda:
            self.stream = torch.cuda.current_stream()

    def acquire(self) -> "DeviceSelection | None":
        """A line for one request; None: as many SFI requests run as there is memory for."""
        return DeviceSelection(self, self.free.pop()) if self.free else None


@dataclass(frozen=True, eq=False)
class DeviceSelection:
    """One request's line of the table. How many of its entries count, the RequestState knows before the device has
    selected them."""

    table: SelectionTable
    line: int

    def coverage(self, known: int) -> Tensor:
        """Later refreshes may be under way, but no pass writes this sum any more; read on a stream of its own, it waits
        for none of them (the scheduler's stream does: Scheduler._apply_war_barrier)."""
        with torch.cuda.stream(self.table.reader):  # None: stays on the current one
            return self.table.coverage[self.line, (known - 1) % RING].cpu()

    def read(self, number: Tensor) -> int:
        with torch.cuda.stream(self.table.reader):
            return int(number)

    def snapshot(self, count: int, first: int, covered: int, blocks: tuple[bytes, ...]) -> Snapshot:
        """A copy, ordered after every launched pass."""
        with torch.cuda.stream(self.table.stream):  # None: stays on the current one
            return Snapshot(self.table.positions[self.line, :, :, :count].clone(), first, covered, blocks)

    def release(self) -> None:
        self.table.free.append(self.line)
