"""A batch of random keys, values and memories for benchmarks of the attention kernels, all layers in one CUDA graph.

Without a GPU everything runs once, interpreted, on the shape `tiny`: a rehearsal whose times mean nothing.
"""

import time
from collections.abc import Callable

import torch
from torch import Tensor

from sfi_sglang.device_memory import DeviceMemory, Shape
from sfi_sglang.kernels.launch import FAST, Launch
from sfi_sglang.kernels.rows import TILE
from sfi_sglang.options import SFIOptions
from sfi_sglang.row_table import RowTable
from sfi_sglang.triton_attention import TritonAttention

SHAPES = {"qwen3-4b": (36, 32, 8, 128), "tiny": (2, 4, 2, 64)}  # layers, heads, KV heads, head dim
GPU = torch.cuda.is_available()
DEVICE, DTYPE = ("cuda", torch.bfloat16) if GPU else ("cpu", torch.float16)
PROCESSORS = torch.cuda.get_device_properties(0).multi_processor_count if GPU else 4


def graph_time(run: Callable[[], object], repeats: int = 20) -> float:
    """Median microseconds of one replay of a graph of `run`."""
    if not GPU:
        return time_once(run, 1)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        run()
        run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return time_once(graph.replay, repeats)


def time_once(run: Callable[[], object], repeats: int = 20) -> float:
    """Median microseconds of `run`."""
    times = []
    for _ in range(repeats):
        if not GPU:
            began = time.perf_counter()
            run()
            times.append((time.perf_counter() - began) * 1e6)
            continue
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end) * 1e3)
    return sorted(times)[len(times) // 2]


class Bench:
    """keys, values: two layers' worth that all layers take in turn, much larger than the L2 cache."""

    def __init__(self, shape: str, batch: int, context: int, options: SFIOptions) -> None:
        self.batch, self.context, self.options = batch, context, options
        room = batch * (context + TILE)  # evidence of all rows at once
        self.shape = Shape(*SHAPES[shape], requests=batch, graph_rows=batch, budget=options.budget, context=room)
        slots = batch * context
        self.keys = torch.randn(2, slots, self.shape.kv_heads, self.shape.dim, dtype=DTYPE, device=DEVICE)
        self.values = torch.randn_like(self.keys)
        self.q = torch.randn(batch, self.shape.heads, self.shape.dim, dtype=DTYPE, device=DEVICE)
        self.req_to_token = torch.randperm(slots, device=DEVICE).int().view(batch, context)
        self.pool_rows = torch.arange(batch, device=DEVICE)
        self.memory = DeviceMemory.allocate(self.shape, DEVICE, 1 << 60)
        self.table = RowTable(batch, self.shape.evidence_tokens, DEVICE)
        self.scale = self.shape.dim**-0.5

    def fill(self, slow: int, fast: int) -> None:
        """`slow` slow rows, then `fast` fast ones, both with memories of random positions; the rest dense."""
        self.table.clear()
        self.memory.table.free = list(range(self.batch))[::-1]
        for row in range(self.batch):
            line = self.memory.table.acquire()
            assert line is not None
            if row >= slow + fast:
                self.table.dense(row, self.context)
                continue
            start = self.options.recent_start(self.context)
            noise = torch.rand(self.shape.kv_heads, start - self.options.sink, device=DEVICE)
            picks = noise.topk(self.options.budget).indices.sort().values + self.options.sink
            self.memory.table.positions[line.row] = picks.int()
            line.count, line.recent_start = self.options.budget, start
            if row >= slow:
                self.table.fast(row, self.context, self.options, line)
                continue
            self.table.dense(row, self.context)
            self.table.slow_row(row, self.context, self.options, line)

    def attend(self, launch: Launch, tap: bool, merge: bool = False) -> Callable[[], Tensor]:
        """One pass over all layers, as a function to be timed; its result is the last layer's. merge: with the tap,
        also what makes evidence of the logits."""
        attention = TritonAttention(self.memory, self.table, self.req_to_token, launch, PROCESSORS, tap)
        attention.prepare(self.batch)

        def run() -> Tensor:
            attention.start(self.pool_rows)
            for layer in range(self.shape.layers):
                keys, values = self.keys[layer % 2], self.values[layer % 2]
                out = attention.run(self.q, keys, values, layer, self.scale)
                if merge:
                    self.memory.observe(self.table, self.batch, layer)
                if tap:
                    out.add_(0)  # as a model has other kernels here: see "Evidence and coverage" in README.md
            return out

        return run

    def refresh(self) -> None:
        """Select from whatever evidence lies there."""
        self.memory.refresh(self.table, self.batch, self.shape.heads // self.shape.kv_heads)

    def error(self, row: int) -> float:
        """Relative error of one row's attention in the last layer against float64."""
        out = self.attend(FAST, tap=False)()[row]
        kv_heads, layer = self.shape.kv_heads, self.shape.layers - 1
        sink, count, recent, length, _, line = (int(value) for value in self.table.lines[row, :6])
        ends = torch.cat([torch.arange(sink), torch.arange(recent, length)]).to(DEVICE).expand(kv_heads, -1)
        positions = torch.cat([ends, self.memory.table.positions[line, layer, :, :count].long()], 1)
        slots = self.req_to_token[row][positions].long()
        heads = torch.arange(kv_heads, device=DEVICE)[:, None]
        k, v = (pool[layer % 2][slots, heads].double() for pool in (self.keys, self.values))
        exact = (self.q[row].view(kv_heads, -1, self.shape.dim).double() @ k.mT * self.scale).softmax(-1) @ v
        return float((out.view_as(exact).double() - exact).norm() / exact.norm())
