"""A batch of random keys, values and selections for benchmarks of the attention kernels, all layers in one CUDA graph.

Without a GPU everything runs once, interpreted, on the shape `tiny`: a rehearsal whose times mean nothing.
"""

import time
from collections.abc import Callable

import torch
from torch import Tensor

from sfi_sglang.api.options import EVIDENCE_PAGE, SFIOptions
from sfi_sglang.attention.pass_metadata import PassMetadata, Pieces
from sfi_sglang.attention.triton_decode import TritonAttention
from sfi_sglang.attention.workspace import Workspace
from sfi_sglang.kernels.launch import FAST, MIXED, Launch
from sfi_sglang.kernels.new_tokens import NewTokens
from sfi_sglang.scheduling.request_state import Refresh
from sfi_sglang.selection.limits import Limits
from sfi_sglang.selection.scoring import Scoring
from sfi_sglang.selection.stages import stage_mask

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
        room = batch * (context + EVIDENCE_PAGE)  # evidence of all rows at once
        self.limits = Limits(*SHAPES[shape], batch, batch, options.budget, room, parts=1 << 12)
        slots = batch * context
        self.keys = torch.randn(2, slots, self.limits.kv_heads, self.limits.dim, dtype=DTYPE, device=DEVICE)
        self.values = torch.randn_like(self.keys)
        self.q = torch.randn(batch, self.limits.heads, self.limits.dim, dtype=DTYPE, device=DEVICE)
        self.req_to_token = torch.randperm(slots, device=DEVICE).int().view(batch, context)
        self.req_pool_indices = torch.arange(batch, device=DEVICE)
        last = self.req_to_token[:, -1].long()
        self.new = [NewTokens(k[last], v[last], last) for k, v in zip(self.keys, self.values, strict=True)]
        self.workspace = Workspace.allocate(self.limits, DEVICE, 1 << 60)
        pieces = Pieces(MIXED.programs(PROCESSORS, self.limits.kv_heads) + batch)
        self.metadata = PassMetadata(batch, self.limits.evidence_tokens, DEVICE, pieces)
        self.scoring = Scoring(self.limits.dim**-0.5)

    def fill(self, slow: int, fast: int) -> None:
        """`slow` slow rows, then `fast` fast ones, both with selections of random positions; the rest dense."""
        self.metadata.clear()
        for row in range(self.batch):
            if row >= slow + fast:
                self.metadata.dense(row, self.context)
                continue
            first, start, count = self.options.sink, self.options.recent_start(self.context), self.options.budget
            noise = torch.rand(self.limits.kv_heads, start - first, device=DEVICE)
            self.workspace.table.positions[row] = (noise.topk(count).indices.sort().values + first).int()
            if row >= slow:
                self.metadata.fast(row, self.context, (first, count, start), row)
                continue
            self.metadata.dense(row, self.context)
            refresh = Refresh(first, start - first, count, old_count=count, old_recent_start=start)
            self.metadata.refresh(row, refresh, row, stage_mask(self.options.selector))

    def attend(self, launch: Launch, logits_out: bool, merge: bool = False) -> Callable[[], Tensor]:
        """One pass over all layers, as a function to be timed; its result is the last layer's. merge: also make
        evidence of the logits that slow rows leave."""
        attention = TritonAttention(self.workspace, self.metadata, self.req_to_token, launch, PROCESSORS, logits_out)
        attention.prepare(self.batch)

        def run() -> Tensor:
            attention.start(self.req_pool_indices)
            for layer in range(self.limits.layers):
                keys, values = self.keys[layer % 2], self.values[layer % 2]
                new = self.new[layer % 2] if attention.stores_new else None
                out = attention.run(self.q, keys, values, layer, self.scoring, new)
                if merge:
                    self.workspace.observe(self.metadata, self.batch, layer)
                if logits_out:
                    out.add_(0)  # as a model has other kernels here: see "Evidence and coverage" in README.md
            return out

        return run

    def refresh(self) -> None:
        """Select from whatever evidence lies there."""
        self.workspace.refresh(self.metadata, self.batch, self.limits.heads // self.limits.kv_heads)

    def error(self, row: int) -> float:
        """Relative error of one row's attention in the last layer against float64."""
        out = self.attend(FAST, logits_out=False)()[row]
        kv_heads, layer = self.limits.kv_heads, self.limits.layers - 1
        sink, count, recent, length, _, line = (int(value) for value in self.metadata.lines[row, :6])
        ends = torch.cat([torch.arange(sink), torch.arange(recent, length)]).to(DEVICE).expand(kv_heads, -1)
        positions = torch.cat([ends, self.workspace.table.positions[line, layer, :, :count].long()], 1)
        slots = self.req_to_token[row][positions].long()
        heads = torch.arange(kv_heads, device=DEVICE)[:, None]
        k, v = (pool[layer % 2][slots, heads].double() for pool in (self.keys, self.values))
        exact = (self.q[row].view(kv_heads, -1, self.limits.dim).double() @ k.mT * self.scoring.scale).softmax(-1) @ v
        return float((out.view_as(exact).double() - exact).norm() / exact.norm())
