"""Drafts that cost no step: where the context has had its last tokens before, what followed them then. Agents repeat
ids, paths and calls, and for such spans a verification has drafts at once (prompt lookup decoding, Saxena 2023)."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

SHORTEST, LONGEST = 4, 12  # tokens that must have stood before; more say nothing new
WORTH = 2.0  # accepted drafts of a verification: by fewer, fast steps draft cheaper
MEMORY = 0.8  # weight that a verification leaves to those before it


@dataclass
class Copying:
    """Of one request. ids: int32, the first `known` of them its context. gain: accepted drafts of a verification, the
    younger ones weighing more."""

    ids: np.ndarray = field(default_factory=lambda: np.empty(0, np.int32))
    known: int = 0
    gain: float = WORTH

    def verified(self, accepted: int) -> None:
        self.gain = MEMORY * self.gain + (1 - MEMORY) * accepted

    def find(self, parts: Sequence[Sequence[int]], most: int) -> list[int]:
        """Up to `most` drafts of a request whose context the parts make up together; none where they are not likely to
        be worth a verification."""
        self._read(parts)
        end, length = self._before()
        if length < SHORTEST or (self.gain < WORTH and length < LONGEST):
            return []
        found: list[int] = self.ids[end + 1 : min(end + 1 + most, self.known)].tolist()
        return found if len(found) >= WORTH else []

    def _read(self, parts: Sequence[Sequence[int]]) -> None:
        """Take what is new."""
        total = sum(map(len, parts))
        if total > len(self.ids):
            grown = np.empty(total + total // 4 + 64, np.int32)
            grown[: self.known] = self.ids[: self.known]
            self.ids = grown
        start = 0
        for part in parts:
            new = max(self.known - start, 0)
            if new < len(part):
                self.ids[start + new : start + len(part)] = part[new:]
                self.known = start + len(part)
            start += len(part)

    def _before(self) -> tuple[int, int]:
        """Where the latest of the longest matches of the context's end ends, and its length."""
        ids, last = self.ids[: self.known], self.known - 1
        ends, length = np.flatnonzero(ids[:last] == ids[last]), 0
        while len(ends):
            latest, length = int(ends[-1]), length + 1
            if length == LONGEST:
                break
            ends = ends[ends >= length]
            ends = ends[ids[ends - length] == ids[last - length]] if last >= length else ends[:0]
        return (latest, length) if length else (0, 0)
