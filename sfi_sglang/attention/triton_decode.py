"""Decode attention of fast and mixed passes through our own kernel (kernels/decode.py)."""

from typing import Protocol

from torch import Tensor

from sfi_sglang.attention.pass_metadata import PassMetadata
from sfi_sglang.attention.workspace import Workspace
from sfi_sglang.kernels.decode import attend, merge
from sfi_sglang.kernels.launch import Launch, WideLaunch
from sfi_sglang.kernels.locate import locate
from sfi_sglang.kernels.new_tokens import NewTokens
from sfi_sglang.kernels.wide import attend_wide
from sfi_sglang.selection.scoring import Scoring


class RowAttention(Protocol):
    """Attention of one graph variant over the visible tokens of the rows of a pass. stores_new: does it put the rows'
    last tokens into the pool?"""

    stores_new: bool

    def fits(self, tokens: int) -> bool:
        """Can one pass serve rows that see so many tokens (per KV head) together?"""

    def prepare(self, rows: int) -> None:
        """Before a pass or a graph's replay, on the host: load the metadata of a batch of `rows`, padded ones too."""

    def start(self, req_pool_indices: Tensor) -> None:
        """Before the first layer, on the device: look KV slots up. req_pool_indices: integer [rows], lines of
        req_to_token."""

    def run(
        self, q: Tensor, keys: Tensor, values: Tensor, layer: int, scoring: Scoring, new: NewTokens | None = None
    ) -> Tensor:
        """One layer: q [rows, heads, D], any row stride, keys and values [slots, KV, D] -> as q. new: the rows' last
        tokens, if `stores_new` and they are not in the pool yet."""


class TritonAttention:
    """Any number of tokens. processors: of the GPU. logits_out: slow rows leave their logits behind. wide: there may be
    wide rows, and how they are launched."""

    def __init__(
        self,
        workspace: Workspace,
        metadata: PassMetadata,
        req_to_token: Tensor,
        launch: Launch,
        processors: int,
        logits_out: bool = False,
        wide: WideLaunch | None = None,
    ) -> None:
        self.workspace, self.metadata, self.req_to_token = workspace, metadata, req_to_token
        self.launch, self.logits_out, self.wide = launch, logits_out, wide
        self.programs = launch.programs(processors, workspace.limits.kv_heads)
        self.stores_new = not logits_out  # there the queries of a wide row see each other's

    def fits(self, tokens: int) -> bool:
        return True

    def prepare(self, rows: int) -> None:
        limits, listed = self.workspace.limits, rows if self.logits_out else 0
        self.metadata.load(listed, self.programs, self._splits(rows), self.launch.tokens(limits.dim))

    def _splits(self, rows: int) -> int:
        """Of a row, in the grid: the same at a graph's capture and replay. A slow row may take all programs."""
        return self.workspace.limits.pass_splits(1 if self.logits_out else rows, self.programs)

    def start(self, req_pool_indices: Tensor) -> None:
        table = self.workspace.table
        self.req_pool_indices = req_pool_indices
        locate(table.positions, self.req_to_token, req_pool_indices, self.metadata.rows, table.slots)

    def run(
        self, q: Tensor, keys: Tensor, values: Tensor, layer: int, scoring: Scoring, new: NewTokens | None = None
    ) -> Tensor:
        metadata, buffers, splits = self.metadata, self.workspace.buffers, self._splits(q.shape[0])
        pool = (q, keys, values, self.req_to_token, self.req_pool_indices)
        slots = self.workspace.table.slots[:, layer]
        pieces = metadata.pieces[: self.programs + q.shape[0]]  # one without work takes time too
        attend(*pool, slots, metadata.rows, pieces, buffers, scoring, splits, self.logits_out, self.launch, new)
        if self.wide:
            attend_wide(*pool, metadata.rows, metadata.wide_pieces, buffers, scoring, self.wide)
        return merge(metadata.rows, buffers, q.new_empty(q.shape), scoring, keys.shape[1], splits, self.logits_out)
