"""SnapshotStore: selected memories that outlive their request, keyed by the tokens they were selected from.

The key is a rolling hash of 64-token blocks, not a node of the radix tree: positions stay valid whether or not the KV
was evicted, the tree (Rust or Python) and HiCache stay untouched, and all forks of a prefix find the same snapshot.
"""

import hashlib
from array import array
from collections import OrderedDict, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

BLOCK = 64  # tokens
ENTRY_BYTES = 128  # what one block of a snapshot costs in the index, about


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A selection as its request left it. Shared by reference: nobody writes to it.

    positions: int32 [layers, KV heads, n], ascending, all in [first, covered).
    covered: tokens the selection has considered; later ones were still recent.
    blocks: rolling hashes of its tokens.
    """

    positions: Tensor
    first: int
    covered: int
    blocks: tuple[bytes, ...]

    def __post_init__(self) -> None:
        """Count the positions below each block on the current stream, which wrote them, and bring that to the host."""
        ends = torch.arange(0, self.covered, BLOCK, dtype=torch.int32, device=self.positions.device)
        below = torch.searchsorted(self.positions, ends.expand(*self.positions.shape[:-1], -1).contiguous())
        least = below.amin((0, 1))
        object.__setattr__(self, "_least", torch.empty(least.shape, dtype=least.dtype, pin_memory=least.is_cuda))
        self._least.copy_(least, non_blocking=True)
        object.__setattr__(self, "_copied", torch.cuda.Event() if least.is_cuda else None)
        if self._copied is not None:
            self._copied.record()

    _least: Tensor = field(init=False, repr=False)
    _copied: torch.cuda.Event | None = field(init=False, repr=False)

    def least_below(self, position: int) -> int:
        """Selected positions below `position`, rounded down to whole blocks, that every layer and head has at least."""
        if position >= self.covered:
            return self.positions.shape[-1]
        if self._copied is not None:
            self._copied.synchronize()  # when the request left, long ago
        return int(self._least[position // BLOCK])

    @property
    def nbytes(self) -> int:
        return self.positions.nbytes + ENTRY_BYTES * len(self.blocks)


@dataclass(frozen=True)
class Inherited:
    """What a request takes over: a snapshot and how many leading tokens it shares with it, a multiple of BLOCK."""

    snapshot: Snapshot
    tokens: int

    @property
    def covered(self) -> int:
        """Positions of the snapshot below this are valid here; tokens from here on are new to the memory."""
        return min(self.snapshot.covered, self.tokens)


@dataclass
class StoreStats:
    lookups: int = 0
    hits: int = 0
    evictions: int = 0
    published: int = 0


@dataclass
class SnapshotStore:
    """Least recently used snapshots are dropped when `capacity` (bytes) is exceeded."""

    capacity: int
    stats: StoreStats = field(default_factory=StoreStats)

    def __post_init__(self) -> None:
        self.nbytes = 0
        self._snapshots: OrderedDict[bytes, Snapshot] = OrderedDict()  # last block's hash -> snapshot, oldest use first
        self._through: defaultdict[bytes, dict[bytes, None]] = defaultdict(dict)  # block -> snapshots that contain it

    def __len__(self) -> int:
        return len(self._snapshots)

    def publish(self, snapshot: Snapshot) -> None:
        """Keep a snapshot; it replaces one of the very same tokens. Larger than the whole store: not kept."""
        if not snapshot.blocks or snapshot.nbytes > self.capacity:
            return
        name = snapshot.blocks[-1]
        self._drop(name)
        self._snapshots[name] = snapshot
        self.nbytes += snapshot.nbytes
        for block in snapshot.blocks:
            self._through[block][name] = None
        self.stats.published += 1
        while self.nbytes > self.capacity:
            self._drop(next(iter(self._snapshots)))
            self.stats.evictions += 1

    def lookup(self, blocks: Sequence[bytes]) -> Inherited | None:
        """The snapshot sharing the longest prefix of `blocks`; of several the shortest, which loses least when cut."""
        self.stats.lookups += 1
        for count in range(len(blocks), 0, -1):
            if names := self._through.get(blocks[count - 1]):
                name = min(names, key=lambda n: len(self._snapshots[n].blocks))
                self._snapshots.move_to_end(name)
                self.stats.hits += 1
                return Inherited(self._snapshots[name], count * BLOCK)
        return None

    def clear(self) -> None:
        self._snapshots.clear()
        self._through.clear()
        self.nbytes = 0

    def _drop(self, name: bytes) -> None:
        snapshot = self._snapshots.pop(name, None)
        if snapshot is None:
            return
        self.nbytes -= snapshot.nbytes
        for block in snapshot.blocks:
            names = self._through[block]
            names.pop(name, None)
            if not names:
                del self._through[block]


def block_hashes(tokens: Sequence[int], namespace: str, known: Sequence[bytes] = ()) -> tuple[bytes, ...]:
    """Rolling hashes of the whole blocks of `tokens`; `known` are those of its beginning, computed before.

    namespace: separates what must never be shared (extra key, cache salt, LoRA adapter).
    """
    hashes = list(known)
    previous = hashes[-1] if hashes else hashlib.blake2b(namespace.encode(), digest_size=16).digest()
    for start in range(len(hashes) * BLOCK, len(tokens) - BLOCK + 1, BLOCK):
        block = array("q", tokens[start : start + BLOCK]).tobytes()
        previous = hashlib.blake2b(previous + block, digest_size=16).digest()
        hashes.append(previous)
    return tuple(hashes)


def namespace(req: Any) -> str:
    """Requests with different adapters, extra keys or cache salts never share a memory."""
    return repr((req.extra_key, req.cache_salt, req.lora_id))
