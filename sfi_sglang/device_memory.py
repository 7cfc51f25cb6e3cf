"""Device memory of the Triton executor: what it takes beside SGLang's pool, fixed at start and stated there."""

import logging
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sfi_sglang.kernels import select, stages
from sfi_sglang.kernels.coverage import RING, record
from sfi_sglang.kernels.decode import DecodeBuffers
from sfi_sglang.kernels.evidence import merge_logits
from sfi_sglang.kernels.rows import TILE
from sfi_sglang.options import SFIOptions, evidence_pages

logger = logging.getLogger(__name__)
MB = 1 << 20
FLASHINFER_FLOATS, FLASHINFER_INTS = 128 * MB, MB  # workspaces; the first is the size that FlashInfer recommends


@dataclass(frozen=True)
class Shape:
    """Of the model part on this rank, and of the server's limits."""

    layers: int
    heads: int
    kv_heads: int
    dim: int
    requests: int  # running at once, at most
    graph_rows: int  # rows of one decode batch, at most
    budget: int  # largest `budget` of a request
    context: int  # tokens
    store_bytes: int = 0  # memories that outlive their request, at most
    flashinfer: bool = False  # are fast rows attended by FlashInfer?

    @property
    def evidence_tokens(self) -> int:
        """Candidates of all slow rows of one pass, together: at least one whole context."""
        return evidence_pages(self.context) * TILE

    @property
    def splits(self) -> int:
        """Most splits of one row: enough that one long row fills the GPU, fewer where many rows do."""
        return 64 if self.graph_rows <= 32 else 32 if self.graph_rows <= 64 else 16

    def pass_splits(self, rows: int, programs: int) -> int:
        """Splits of each of `rows` rows of about equal length that make `programs` programs: a power of two."""
        even = -(-programs // (rows * self.kv_heads))
        return min(self.splits, max(2, 1 << (even - 1).bit_length()))

    @property
    def request_bytes(self) -> int:
        return 2 * self.layers * self.kv_heads * self.budget * 4

    @property
    def evidence_bytes(self) -> int:
        scores = 2 * self.layers * self.kv_heads
        return (scores + self.heads) * self.evidence_tokens * 4

    @property
    def partial_bytes(self) -> int:
        return self.graph_rows * (self.heads * self.splits * (self.dim + 2) + self.layers * self.kv_heads) * 4

    @property
    def page_room(self) -> int:
        """Tokens per layer and KV head that the rows of one pass through FlashInfer may see together: what a full batch
        sees at most with the largest budget and default options. A pass that sees more runs the Triton kernels: a
        request may ask for more sink and recent tokens or longer segments, and a refresh may come late."""
        default = SFIOptions()
        recent = default.recent + 15 + default.max_segment  # from a multiple of 16 to the end of the segment
        return self.graph_rows * (default.sink + self.budget + recent)

    @property
    def layer_pages(self) -> int:
        """Page numbers of one layer; a padded row has one a KV head."""
        return (self.page_room + self.graph_rows) * self.kv_heads

    @property
    def flashinfer_bytes(self) -> int:
        return self.layers * self.layer_pages * 4 + FLASHINFER_FLOATS + FLASHINFER_INTS if self.flashinfer else 0

    @property
    def total_bytes(self) -> int:
        requests = self.requests * self.request_bytes
        return requests + self.evidence_bytes + self.partial_bytes + self.flashinfer_bytes + self.store_bytes

    def statement(self) -> str:
        flashinfer = f"{self.flashinfer_bytes / MB:.0f} MB for FlashInfer, " if self.flashinfer else ""
        return (
            f"{self.total_bytes / MB:.0f} MB beside the KV pool: {self.request_bytes / MB:.1f} MB a request for "
            f"{self.requests} requests (--max-running-requests) of budget {self.budget} (--sfi-max-budget), "
            f"{self.evidence_bytes / MB:.0f} MB of evidence for a context of {self.context} tokens, "
            f"{self.partial_bytes / MB:.0f} MB of partial results, {flashinfer}up to {self.store_bytes / MB:.0f} MB of "
            "memories that outlive their request (--sfi-memory-mb)"
        )


class MemoryTable:
    """Selected positions of the running SFI requests, int32 [requests, layers, KV heads, budget]; and, by row of the
    batch, the KV slots that they have in the step at hand."""

    def __init__(self, shape: Shape, device) -> None:
        self.positions = torch.zeros(
            shape.requests, shape.layers, shape.kv_heads, shape.budget, dtype=torch.int32, device=device
        )
        self.slots = torch.zeros(
            shape.graph_rows, shape.layers, shape.kv_heads, shape.budget, dtype=torch.int32, device=device
        )
        self.coverage = torch.zeros(shape.requests, RING, device=device)  # see kernels/coverage.py
        self.free = list(range(shape.requests))[::-1]
        self.stream: torch.cuda.Stream | None = None  # of the forward passes
        self.reader = torch.cuda.Stream(device) if self.positions.is_cuda else None

    def follow_stream(self) -> None:
        """Remember the stream of the pass being prepared: the lines are written there."""
        if self.positions.is_cuda:
            self.stream = torch.cuda.current_stream()

    def acquire(self) -> "TableMemory | None":
        """A line for one request. There are as many as requests can run, so None would be a leak."""
        if not self.free:
            logger.error("sfi: no line of the memory table is free, a request decodes densely")
            return None
        return TableMemory(self, self.free.pop())


@dataclass(eq=False)
class TableMemory:
    """One request's line of the table; what SparseMemory is to the torch executor.

    count, recent_start: as the last launched pass leaves them; the host knows both before the device has selected.
    observed: tokens of the context at each slow step whose coverage the device computes.
    """

    table: MemoryTable
    row: int
    count: int = 0
    recent_start: int = 0
    observed: list[int] = field(default_factory=list)

    def coverage(self, tokens: int) -> tuple[float, int]:
        """Sum and number of the coverages of the slow steps that made a context of `tokens` tokens. Later ones may be
        under way, but no pass writes this sum any more; read on a stream of its own, it waits for none of them (the
        scheduler's stream does: Scheduler._apply_war_barrier)."""
        known = sum(length < tokens for length in self.observed)
        if not known:
            return 0.0, 0
        with torch.cuda.stream(self.table.reader):  # None: stays on the current one
            return float(self.table.coverage[self.row, (known - 1) % RING]), known

    def snapshot(self) -> Tensor:
        """A copy of the positions, int32 [layers, KV, count], ordered after every launched pass."""
        with torch.cuda.stream(self.table.stream):  # None: stays on the current one
            return self.table.positions[self.row, :, :, : self.count].clone()

    def release(self) -> None:
        self.table.free.append(self.row)


@dataclass(frozen=True)
class DeviceMemory:
    """All of it."""

    shape: Shape
    table: MemoryTable
    scores: Tensor  # float32 [2, layers, KV, T], see kernels/stages.py
    buffers: DecodeBuffers
    mass: Tensor  # float32 [graph rows, layers, KV]: coverage of the slow rows of a pass

    @classmethod
    def allocate(cls, shape: Shape, device, free_bytes: int) -> "DeviceMemory":
        """
        Raises:
            RuntimeError: it does not fit into `free_bytes`; the message has the numbers.
        """
        if shape.total_bytes > free_bytes:
            raise RuntimeError(
                f"sfi needs {shape.statement()}, but only {free_bytes / MB:.0f} MB are free. Lower "
                "--mem-fraction-static, --max-running-requests, --sfi-max-budget or --context-length."
            )
        scores = torch.zeros(2, shape.layers, shape.kv_heads, shape.evidence_tokens, device=device)
        buffers = DecodeBuffers.allocate(
            shape.graph_rows, shape.heads, shape.kv_heads, shape.dim, shape.splits, shape.evidence_tokens, device
        )
        mass = torch.empty(shape.graph_rows, shape.layers, shape.kv_heads, device=device)
        return cls(shape, MemoryTable(shape, device), scores, buffers, mass)

    def observe(self, table, rows: int, layer: int) -> None:
        """Evidence and coverage of the slow ones among the first `rows` rows of `table` (row_table.py), in one layer
        whose attention has just run."""
        slow, positions = table.slow_rows[:rows], self.table.positions[:, layer]
        merge_logits(
            self.buffers, table.rows, table.owners, slow, positions, self.scores[0, layer], self.mass[:, layer]
        )
        if layer == self.shape.layers - 1:
            record(self.mass, table.rows, slow, self.table.coverage)

    def refresh(self, table, rows: int, evidence_rows: int) -> None:
        """Select the memories of the slow ones among the first `rows` rows of `table` (row_table.py), all layers at
        once; `evidence_rows` queries were merged per KV head."""
        slow = table.slow_rows[:rows]
        stages.apply(self.scores, table.rows, slow, table.owners, evidence_rows)
        select.select(self.scores, table.rows, slow, self.table.positions)
