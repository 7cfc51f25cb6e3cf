"""Fills the kernels' row metadata (kernels/rows.py) on the host and copies it to the device once per pass."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from sfi_sglang.api.options import EVIDENCE_PAGE, evidence_pages
from sfi_sglang.attention.cutting import splits_of
from sfi_sglang.kernels import rows as columns
from sfi_sglang.kernels.rows import COLUMNS
from sfi_sglang.scheduling.request_state import Refresh

(
    SINK, COUNT, RECENT, LENGTH, SPLIT, SELECTION, EVIDENCE_AT, FIRST, CANDIDATES, KEEP, STAGES, OLD_COUNT, OLD_RECENT,
    OBSERVED, WIDE, TAIL, PARTS,
) = (
    getattr(columns, name).value
    for name in (
        "SINK", "COUNT", "RECENT", "LENGTH", "SPLIT", "SELECTION", "EVIDENCE_AT", "FIRST", "CANDIDATES", "KEEP",
        "STAGES", "OLD_COUNT", "OLD_RECENT", "OBSERVED", "WIDE", "TAIL", "PARTS",
    )
)  # fmt: skip


@dataclass(frozen=True)
class Pieces:
    """Into how many pieces, per KV head, a pass with slow rows may be cut. single: splits of single rows. tiles: of
    wide rows, and tile: tokens of one (kernels/wide.py); wave: pieces of theirs, a tile and a split each, that the GPU
    runs at a time."""

    single: int = 0
    tiles: int = 0
    tile: int = 1
    wave: int = 1

    @property
    def wide(self) -> int:
        """Of wide rows: where tiles are many, long rows get splits yet."""
        return 2 * max(self.wave, self.tiles) if self.tiles else 0

    @property
    def parts(self) -> int:
        """Partial results, one of each row and split."""
        return self.single + self.tile * self.wide


def fast_parts(rows: int, programs: int) -> int:
    """As `parts`, of passes with up to `rows` fast rows. programs: that they are cut into together, per KV head."""
    return 2 * (programs + 1 + rows)


class PassMetadata:
    """Metadata of the rows of one pass, on the host and at a fixed place on the device (CUDA graphs read it there).

    pieces: at most.
    """

    def __init__(
        self,
        max_rows: int,
        evidence_tokens: int,
        device: torch.device | str,
        pieces: Pieces = Pieces(),
    ) -> None:
        self.max_rows, self.most = max_rows, pieces
        self.pages = evidence_tokens // EVIDENCE_PAGE
        sizes = np.cumsum([max_rows * COLUMNS, max_rows, self.pages, 2 * pieces.single, 3 * pieces.wide])
        self.ends = [int(size) for size in sizes]
        self.device = torch.zeros(self.ends[-1], dtype=torch.int32, device=device)
        rows, self.refresh_rows, self.page_to_row, single, wide = self.device.tensor_split(self.ends[:-1])
        self.rows = rows.view(max_rows, COLUMNS)
        # refresh_rows: slow rows; page_to_row: the row of a page of evidence; -1: none
        self.pieces = single.view(-1, 2)  # row (-1: none), split
        self.wide_pieces = wide.view(-1, 3)  # wide row (-1: none), tile, split
        self.clear()

    def clear(self) -> None:
        """All rows dense with one token, no slow row: harmless for the padding of a graph."""
        self.host = np.zeros(self.device.shape[0], np.int32)
        self.lines = self.host[: self.max_rows * COLUMNS].reshape(self.max_rows, COLUMNS)
        self.lines[:, [SINK, RECENT, LENGTH, SPLIT]] = 1
        self.lines[:, EVIDENCE_AT] = -1
        self.host[self.max_rows * COLUMNS :] = -1
        self.refreshes, self.used_pages = 0, 0
        self.wide: list[tuple[int, slice, int]] = []  # wide row, rows of its other queries, tiles

    def dense(self, row: int, length: int) -> None:
        self.lines[row, [SINK, RECENT, LENGTH]] = length

    def fast(self, row: int, length: int, ends: tuple[int, int, int], line: int = 0) -> None:
        """ends: see RequestState.visible_ends. line: of the selection table."""
        self.lines[row, [SINK, COUNT, RECENT]] = ends
        self.lines[row, [LENGTH, SELECTION]] = length, line

    def has_room(self, candidates: int) -> bool:
        """For the evidence of one more slow row?"""
        return self.used_pages + evidence_pages(candidates) <= self.pages

    def refresh(self, row: int, refresh: Refresh, line: int, stages: int) -> int:
        """The row, dense beside this, leaves evidence for line `line` of the selection table. stages: bits of the
        Selector's. Returns where in the evidence it starts."""
        start = self.used_pages
        self.used_pages = start + evidence_pages(refresh.candidates)
        self.lines[row, [EVIDENCE_AT, SELECTION, STAGES]] = start * EVIDENCE_PAGE, line, stages
        self.lines[row, [FIRST, CANDIDATES, KEEP]] = refresh.first, refresh.candidates, refresh.keep
        if refresh.old_recent_start:
            old = refresh.old_count, refresh.old_recent_start, refresh.observed
            self.lines[row, [OLD_COUNT, OLD_RECENT, OBSERVED]] = old
        tail = self.host[self.max_rows * COLUMNS :]
        tail[self.refreshes] = row
        tail[self.max_rows + start : self.max_rows + self.used_pages] = row
        self.refreshes += 1
        return start * EVIDENCE_PAGE

    def widen(self, row: int, tail: int, positions: Sequence[int]) -> None:
        """The row, dense or slow beside this, is wide: the rows from `tail` on are its queries at `positions`."""
        others = slice(tail, tail + len(positions))
        self.lines[row, [WIDE, TAIL]] = len(positions) + 1, tail
        for column in (SINK, RECENT, LENGTH):
            self.lines[others, column] = np.array(positions) + 1
        self.lines[others, WIDE] = -1
        self.wide.append((row, others, -(-(len(positions) + 1) // self.most.tile)))

    @property
    def visible(self) -> np.ndarray:
        """Tokens that each row sees, per KV head."""
        lines = self.lines
        return lines[:, SINK] + lines[:, COUNT] + lines[:, LENGTH] - lines[:, RECENT]

    def load(self, rows: int = 0, programs: int = 1, splits: int = 1, block: int = 1) -> None:
        """Cut the rows into at most `splits` splits each of about equal work, `programs` (per KV head) in all and whole
        blocks of tokens each, and copy everything to the device. rows: of the batch, where pieces are listed."""
        visible = np.where(self.lines[:, WIDE] == 0, self.visible, 0)
        size = np.maximum(visible.sum() / programs, visible / splits)
        self.lines[:, SPLIT] = np.maximum(np.ceil(size / block), 1) * block
        if rows:
            counts = -(-visible[:rows] // self.lines[:rows, SPLIT])
            first = np.repeat(counts.cumsum() - counts, counts)
            self.lines[:rows, PARTS] = counts.cumsum() - counts
            self._list(3, np.stack([np.repeat(np.arange(rows), counts), np.arange(len(first)) - first], 1))
            self._list(4, self._cut_wide(int(counts.sum()), splits, block))
        else:
            self.lines[:, PARTS] = np.arange(self.max_rows) * splits
        host = torch.from_numpy(self.host)
        if self.device.is_cuda:
            host = host.pin_memory()  # a fresh block: the copy of the last pass may still be under way
        self.device.copy_(host, non_blocking=True)

    def _list(self, part: int, pieces: Any) -> None:
        flat = np.ravel(pieces)
        assert len(flat) <= self.ends[part] - self.ends[part - 1], "more pieces than there is room for"
        self.host[self.ends[part - 1] : self.ends[part - 1] + len(flat)] = flat

    def _cut_wide(self, part: int, splits: int, block: int) -> list[tuple[int, int, int]]:
        """Pieces of the wide rows, of about equal work; the tiles of one split beside each other. part: their first."""
        if not self.wide:
            return []
        blocks, tiles = zip(*((-(-int(self.lines[row, LENGTH]) // block), n) for row, _, n in self.wide), strict=True)
        pieces: list[tuple[int, int, int]] = []
        counts = splits_of(blocks, tiles, self.most.wave, self.most.wide, splits)
        for (row, others, number), length, count in zip(self.wide, blocks, counts, strict=True):
            size = -(-length // count)
            queries = [*range(*others.indices(self.max_rows)), row]
            self.lines[queries, SPLIT] = size * block
            self.lines[queries, PARTS] = part + np.arange(len(queries)) * count
            part += len(queries) * count
            pieces += [(row, tile, split) for split in range(-(-length // size)) for tile in range(number)]
        return pieces
