"""What the GPU backend takes beside SGLang's KV pool, computed from the model's shape and the server's limits."""

import math
from dataclasses import dataclass, replace

from sfi_sglang.api.options import EVIDENCE_PAGE, SFIOptions, evidence_pages

MB = 1 << 20
MOST_SPLITS = 64  # of a row: so many fill a GPU
SPARE, FEWEST = 0.15, 8  # share of the free memory for graphs and activations; requests with SFI at once
FLASHINFER_FLOATS, FLASHINFER_INTS = 128 * MB, MB  # workspaces; the first is the size that FlashInfer recommends


@dataclass(frozen=True)
class Limits:
    """Of the model part on this rank, and of the server's limits."""

    layers: int
    heads: int
    kv_heads: int
    dim: int
    requests: int  # with SFI, running at once, at most
    graph_rows: int  # rows of one decode batch, at most
    budget: int  # largest `budget` of a request
    context: int  # tokens
    parts: int = 0  # partial results of the rows of one pass, per KV head, at most
    store_bytes: int = 0  # selections that outlive their request, at most
    flashinfer: bool = False  # are fast rows attended by FlashInfer?

    @property
    def evidence_tokens(self) -> int:
        """Candidates of all slow rows of one pass, together: at least one whole context."""
        return evidence_pages(self.context) * EVIDENCE_PAGE

    def pass_splits(self, rows: int, programs: int) -> int:
        """Splits of each of `rows` rows of about equal length that make `programs` programs of a KV head: a power of
        two."""
        even = -(-programs // rows)
        return min(MOST_SPLITS, max(2, 1 << (even - 1).bit_length()))

    @property
    def line_bytes(self) -> int:
        """Positions of one request, and the KV slots that they have."""
        return 2 * self.layers * self.kv_heads * self.budget * 4

    @property
    def evidence_bytes(self) -> int:
        scores = 2 * self.layers * self.kv_heads
        return (scores + self.heads) * self.evidence_tokens * 4

    @property
    def partial_bytes(self) -> int:
        return (self.parts * self.heads * (self.dim + 2) + self.graph_rows * 2 * self.layers * self.kv_heads) * 4

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
        fixed = self.evidence_bytes + self.partial_bytes + self.flashinfer_bytes + self.store_bytes
        return self.requests * self.line_bytes + fixed

    def within(self, free_bytes: int) -> "Limits":
        """For as many SFI requests at once as leave SPARE of the free memory, but not for fewer than FEWEST."""
        over = self.total_bytes - free_bytes * (1 - SPARE)
        if over <= 0:
            return self
        lines = self.requests - math.ceil(over / self.line_bytes)
        return replace(self, requests=max(lines, min(self.requests, FEWEST)))

    def statement(self) -> str:
        flashinfer = f"{self.flashinfer_bytes / MB:.0f} MB for FlashInfer, " if self.flashinfer else ""
        return (
            f"{self.total_bytes / MB:.0f} MB beside the KV pool: {self.line_bytes / MB:.1f} MB for the selection of "
            f"each of {self.requests} SFI requests at once (at most --max-running-requests), "
            f"budget {self.budget} (--sfi-max-budget), "
            f"{self.evidence_bytes / MB:.0f} MB of evidence for a context of {self.context} tokens, "
            f"{self.partial_bytes / MB:.0f} MB of partial results, {flashinfer}up to {self.store_bytes / MB:.0f} MB of "
            "selections that outlive their request (--sfi-memory-mb)"
        )
