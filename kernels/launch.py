"""How the attention kernel is launched, and programmatic dependent launch: on Hopper and later a kernel of a chain
starts while the one before it still drains.

What a kernel reads ahead of `chained` must be older than its predecessor: the row metadata, SGLang's tables, and the
slots of `locate`, which lets nobody in before it has ended.
"""

from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl

from sfi_sglang.kernels.heads import queries_of_tile

_ON = torch.cuda.is_available() and torch.version.hip is None and torch.cuda.get_device_capability()[0] >= 9
CHAINED: dict[str, Any] = {"CHAINED": True, "launch_pdl": True} if _ON else {"CHAINED": False}
# For kernels that need most of the shared memory: how it is divided changes only while a processor is idle, so they let
# the next one in, but do not start before the one before has ended.
LETS_IN: dict[str, Any] = {"CHAINED": _ON}
PTX = torch.cuda.is_available() and torch.version.hip is None  # can a kernel say in PTX what Triton cannot?


@dataclass(frozen=True)
class Launch:
    """Settings of a kernel. `python -m benchmarks.sweep_gpu`, `sweep_wide` and `sweep_extend` find them."""

    block: int  # tokens an iteration, at most
    stages: int  # iterations under way: half of them look slots up, and half read keys and values
    warps: int
    waves: int  # programs per multiprocessor that a pass is cut into

    def tokens(self, dim: int) -> int:
        """Tokens an iteration for a head dim: twice as many numbers would not fit into the registers."""
        return min(self.block, TILE_NUMBERS // triton.next_power_of_2(dim))

    def programs(self, processors: int, kv_heads: int) -> int:
        """That a pass is cut into, for each KV head. processors: of the GPU."""
        return max(self.waves * processors // kv_heads, 1)


@dataclass(frozen=True)
class WideLaunch(Launch):
    """Of wide rows."""

    tile: int  # query heads of a program: the rows of one tl.dot

    def queries(self, group: int) -> int:
        """Of a tile. group: query heads per KV head."""
        return queries_of_tile(self.tile, group)


TILE_NUMBERS = 8192
FAST = Launch(block=64, stages=5, warps=2, waves=3)  # the best on an H200
MIXED = Launch(block=64, stages=3, warps=2, waves=4)  # slow rows leave their logits behind
WIDE = WideLaunch(block=64, stages=5, warps=8, waves=1, tile=128)  # rows that repair tens of tokens
VERIFYING = WideLaunch(block=64, stages=5, warps=4, waves=2, tile=64)  # rows that verify at most MOST_DRAFTS
GROUPS = Launch(block=64, stages=3, warps=8, waves=1)  # of sparse extend
CHOICE = Launch(block=128, stages=2, warps=8, waves=1)  # of the blocks that they attend to


@triton.jit
def chained(CHAINED: tl.constexpr):
    """Let the next kernel's programs in, then wait for the previous kernel's results. Every program must pass here."""
    if CHAINED:
        tl.extra.cuda.gdc_launch_dependents()
        tl.extra.cuda.gdc_wait()
