"""Decode attention of fast and mixed passes through our own kernel (kernels/decode.py)."""

from typing import Protocol

import torch
from torch import Tensor

from sfi_sglang.device_memory import DeviceMemory
from sfi_sglang.kernels.decode import decode, locate
from sfi_sglang.kernels.launch import Launch
from sfi_sglang.row_table import RowTable


class RowAttention(Protocol):
    """Attention of one graph variant over the visible tokens of each row of a RowTable."""

    def fits(self, tokens: int) -> bool:
        """Can one pass serve rows that see so many tokens (per KV head) together?"""

    def prepare(self, rows: int) -> None:
        """Before a pass or a graph's replay, on the host: load the row table for a batch of `rows`, padded ones too."""

    def start(self, pool_rows: Tensor) -> None:
        """Before the first layer, on the device: look KV slots up. pool_rows: integer [rows], lines of req_to_token."""

    def run(self, q: Tensor, keys: Tensor, values: Tensor, layer: int, scale: float) -> Tensor:
        """One layer: q [rows, heads, D], keys and values [slots, KV, D] -> as q."""


class TritonAttention:
    """Any number of tokens. With `tap`, slow rows leave their logits behind. processors: of the GPU."""

    def __init__(
        self, memory: DeviceMemory, table: RowTable, req_to_token: Tensor, launch: Launch, processors: int, tap: bool
    ) -> None:
        self.memory, self.table, self.req_to_token = memory, table, req_to_token
        self.launch, self.tap = launch, tap
        self.programs = launch.waves * processors

    def fits(self, tokens: int) -> bool:
        return True

    def prepare(self, rows: int) -> None:
        shape = self.memory.shape
        self.table.load(self.programs // shape.kv_heads, self._splits(rows), self.launch.tokens(shape.dim))

    def _splits(self, rows: int) -> int:
        """Grid of the attention kernel, the same at a graph's capture and replay. A slow row may take all programs."""
        return self.memory.shape.pass_splits(1 if self.tap else rows, self.programs)

    def start(self, pool_rows: Tensor) -> None:
        table = self.memory.table
        self.pool_rows = pool_rows
        locate(table.positions, self.req_to_token, pool_rows, self.table.rows, table.slots)

    def run(self, q: Tensor, keys: Tensor, values: Tensor, layer: int, scale: float) -> Tensor:
        return decode(
            q,
            keys,
            values,
            self.req_to_token,
            self.pool_rows,
            self.memory.table.slots[:, layer],
            self.table.rows,
            self.memory.buffers,
            torch.empty_like(q),
            scale,
            self._splits(q.shape[0]),
            self.tap,
            self.launch,
        )
