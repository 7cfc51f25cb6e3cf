"""The refresh of slow rows, beside the layers of the pass that are still to come.

A layer's evidence is merged while its MLP runs, and the Selector works on a part of the layers while later ones attend:
on two side streams that are joined before the pass ends. So timing changes no result, and under a CUDA graph these are
branches of the graph.
"""

from contextlib import contextmanager
from itertools import pairwise

import torch

from sfi_sglang.device_memory import DeviceMemory
from sfi_sglang.kernels import evidence
from sfi_sglang.row_table import RowTable

PARTS = 6  # of the layers; only the Selector's work on the last one is not hidden


class Branch:
    """A side stream; on a CPU, which has none, everything runs in order."""

    def __init__(self, device: torch.device) -> None:
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    @contextmanager
    def fork(self):
        """What is launched inside runs after what was launched before and beside what comes next."""
        if self.stream is not None:
            self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            yield

    def join(self) -> None:
        """What is launched next runs after all of the branch."""
        if self.stream is not None:
            torch.cuda.current_stream().wait_stream(self.stream)


class Refresh:
    """Follows a mixed pass through the layers; refreshes the memories of the slow rows of `table`."""

    def __init__(self, memory: DeviceMemory, table: RowTable) -> None:
        self.memory, self.table = memory, table
        device, layers = memory.scores.device, memory.shape.layers
        self.merging, self.selecting = Branch(device), Branch(device)
        ends = [layers * part // PARTS for part in range(PARTS + 1)]
        self.parts = {end: slice(start, end) for start, end in pairwise(ends) if start < end}

    def before(self, layer: int) -> None:
        """Before attention, which leaves its logits where those of the layer before still may be read."""
        if layer > 0:
            self.merging.join()

    def after(self, layer: int, rows: int) -> None:
        """After the attention of a batch of `rows` rows."""
        memory, shape = self.memory, self.memory.shape
        with self.merging.fork():
            evidence.merge_logits(memory.buffers, self.table.rows, self.table.owners, memory.scores[0, layer])
            if part := self.parts.get(layer + 1):
                with self.selecting.fork():
                    memory.refresh(self.table, rows, shape.heads // shape.kv_heads, part)
        if layer == shape.layers - 1:
            self.merging.join()
            self.selecting.join()
