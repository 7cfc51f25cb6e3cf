"""Fills the kernels' row metadata (kernels/rows.py) on the host and copies it to the device once per pass."""

import numpy as np
import torch

from sfi_sglang.device_memory import TableMemory
from sfi_sglang.kernels import rows as columns
from sfi_sglang.kernels.rows import COLUMNS, TILE
from sfi_sglang.options import SelectorOptions, SFIOptions, evidence_pages

SINK, COUNT, RECENT, LENGTH, SPLIT, MEMORY, TAP, FIRST, CANDIDATES, KEEP, STAGES, OLD_COUNT, OLD_RECENT, OBSERVED = (
    getattr(columns, name).value
    for name in (
        "SINK", "COUNT", "RECENT", "LENGTH", "SPLIT", "MEMORY", "TAP", "FIRST", "CANDIDATES", "KEEP", "STAGES",
        "OLD_COUNT", "OLD_RECENT", "OBSERVED",
    )
)  # fmt: skip


def stage_mask(stages: SelectorOptions) -> int:
    return sum(getattr(columns, name.upper()).value for name, on in stages if on)


def fast_ends(length: int, options: SFIOptions, memory: TableMemory | None) -> tuple[int, int, int]:
    """Sink tokens, selected tokens and first recent position of a fast row whose context is `length` tokens; without a
    memory (policy `never`) a sliding window."""
    if memory is None:
        return options.sink, 0, options.recent_start(length)
    return options.sink, memory.count, memory.recent_start


def fast_tokens(length: int, options: SFIOptions, memory: TableMemory | None) -> int:
    """Tokens that the row sees, per KV head."""
    sink, count, recent = fast_ends(length, options, memory)
    return sink + count + length - recent


class RowTable:
    """Metadata of the rows of one pass, on the host and at a fixed place on the device (CUDA graphs read it there)."""

    def __init__(self, max_rows: int, evidence_tokens: int, device) -> None:
        self.max_rows, self.pages, self.splits = max_rows, evidence_tokens // TILE, 1
        self.device = torch.zeros(max_rows * (COLUMNS + 1) + self.pages, dtype=torch.int32, device=device)
        self.rows = self.device[: max_rows * COLUMNS].view(max_rows, COLUMNS)
        self.slow_rows = self.device[max_rows * COLUMNS : max_rows * (COLUMNS + 1)]  # -1: none
        self.owners = self.device[max_rows * (COLUMNS + 1) :]  # page of evidence -> row, -1: none
        self.clear()

    def clear(self) -> None:
        """All rows dense with one token, no slow row: harmless for the padding of a graph."""
        self.host = np.zeros(self.device.shape[0], np.int32)
        self.lines = self.host[: self.max_rows * COLUMNS].reshape(self.max_rows, COLUMNS)
        self.lines[:, [SINK, RECENT, LENGTH, SPLIT]] = 1
        self.lines[:, TAP] = -1
        self.host[self.max_rows * COLUMNS :] = -1
        self.slow, self.used_pages = 0, 0

    def dense(self, row: int, length: int) -> None:
        self.lines[row, [SINK, RECENT, LENGTH]] = length

    def fast(self, row: int, length: int, options: SFIOptions, memory: TableMemory | None) -> None:
        self.lines[row, [SINK, COUNT, RECENT]] = fast_ends(length, options, memory)
        self.lines[row, LENGTH] = length
        if memory is not None:
            self.lines[row, MEMORY] = memory.row

    def has_room(self, candidates: int) -> bool:
        """For the evidence of one more slow row?"""
        return self.used_pages + evidence_pages(candidates) <= self.pages

    def slow_row(self, row: int, length: int, options: SFIOptions, memory: TableMemory) -> int:
        """Evidence over all candidates, which refreshes `memory`, and the coverage of what it was. Returns where in the
        evidence it starts."""
        first, start = options.sink, self.used_pages
        candidates = options.candidates(length)
        self.used_pages = start + evidence_pages(candidates)
        self.lines[row, [TAP, FIRST, CANDIDATES, KEEP, MEMORY, STAGES]] = (
            start * TILE, first, candidates, options.selected, memory.row, stage_mask(options.selector)
        )  # fmt: skip
        tail = self.host[self.max_rows * COLUMNS :]
        tail[self.slow] = row
        tail[self.max_rows + start : self.max_rows + self.used_pages] = row
        self.slow += 1
        if memory.recent_start:
            old = memory.count, memory.recent_start, len(memory.observed)
            self.lines[row, [OLD_COUNT, OLD_RECENT, OBSERVED]] = old
            memory.observed.append(length)
        memory.count, memory.recent_start = min(options.selected, candidates), first + candidates
        return start * TILE

    @property
    def visible(self) -> np.ndarray:
        """Tokens that each row sees, per KV head."""
        lines = self.lines
        return lines[:, SINK] + lines[:, COUNT] + lines[:, LENGTH] - lines[:, RECENT]

    def load(self, programs: int = 1, splits: int = 1, block: int = 1) -> None:
        """Cut the rows into at most `splits` splits of about equal work, `programs` (per KV head) in all and whole
        blocks of tokens each, and copy everything to the device."""
        visible, self.splits = self.visible, splits
        size = np.maximum(visible.sum() / programs, visible / splits)
        self.lines[:, SPLIT] = np.maximum(np.ceil(size / block), 1) * block
        host = torch.from_numpy(self.host)
        if self.device.is_cuda:
            host = host.pin_memory()  # a fresh block: the copy of the last pass may still be under way
        self.device.copy_(host, non_blocking=True)
