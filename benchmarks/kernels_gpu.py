"""Kernels on a GPU: time, bytes, achieved bandwidth, ratio to the memory-bound floor, error against float64.

    python -m benchmarks.kernels_gpu --out result.json

Shape of Qwen3-4B: 36 layers, 32 heads, 8 KV heads, head dim 128, bf16. Every case runs all layers inside one CUDA
graph, on random data in a pool much larger than the L2 cache; medians of replays. Bytes are the fewest that must move:
keys and values of the visible tokens, scores once in and once out.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer

from benchmarks.decode_gpu import parse_cases
from sfi_sglang.cli import console
from sfi_sglang.device_memory import MB, MemoryTable, Shape, TableMemory
from sfi_sglang.evals.report import provenance
from sfi_sglang.kernels import evidence, select, stages
from sfi_sglang.kernels.decode import DecodeBuffers, decode, locate
from sfi_sglang.options import SFIOptions
from sfi_sglang.row_table import RowTable
from sfi_sglang.triton_backend import FAST_WAVES, MIXED_WAVES

LAYERS, HEADS, KV, DIM = 36, 32, 8, 128
SCALE = DIM**-0.5


@dataclass
class Result:
    name: str
    batch: int
    context: int
    microseconds: float
    megabytes: float
    gb_per_s: float
    floor: float  # time over the time of the fewest bytes at copy bandwidth
    error: float | None = None


def graph_time(run, repeats: int = 20) -> float:
    """Median microseconds of one replay."""
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


def time_once(run, repeats: int = 20) -> float:
    """Median microseconds of `run`."""
    times = []
    for _ in range(repeats):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end) * 1e3)
    return sorted(times)[repeats // 2]


def copy_bandwidth() -> float:
    """GB/s of a device-to-device copy, bytes read and written."""
    source = torch.empty(4 << 30, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return 2 * source.nbytes / time_once(lambda: target.copy_(source)) / 1e3


class Bench:
    def __init__(self, batch: int, context: int, options: SFIOptions):
        self.batch, self.context, self.options = batch, context, options
        self.shape = Shape(LAYERS, HEADS, KV, DIM, batch, batch, options.budget, context)
        slots = batch * context
        self.keys = torch.randn(2, slots, KV, DIM, dtype=torch.bfloat16, device="cuda")  # two layers' worth, in turn
        self.values = torch.randn_like(self.keys)
        self.q = torch.randn(batch, HEADS, DIM, dtype=torch.bfloat16, device="cuda")
        self.req_to_token = torch.randperm(slots, device="cuda").int().view(batch, context)
        self.pool_rows = torch.arange(batch, device="cuda")
        self.memory = MemoryTable(self.shape, "cuda")
        self.scores = torch.zeros(2, LAYERS, KV, self.shape.evidence_tokens * batch, device="cuda")
        self.buffers = DecodeBuffers.allocate(
            batch, HEADS, KV, DIM, self.shape.splits, self.scores.shape[-1], torch.device("cuda")
        )
        self.out = torch.empty_like(self.q)

    def table(self, slow: int, fast: int) -> RowTable:
        """`slow` slow rows, then `fast` fast ones; the rest dense."""
        waves = FAST_WAVES if fast == self.batch else MIXED_WAVES
        programs = waves * torch.cuda.get_device_properties(0).multi_processor_count
        table = RowTable(self.batch, self.scores.shape[-1], "cuda")
        splits = self.shape.fast_splits(self.batch, programs) if fast == self.batch else self.shape.splits
        for row in range(self.batch):
            memory = TableMemory(self.memory, row)
            if slow <= row < slow + fast:
                start = self.options.recent_start(self.context)
                picks = torch.rand(KV, start - 4, device="cuda").topk(self.options.budget).indices.sort().values + 4
                self.memory.positions[row] = picks.int()
                memory.count, memory.recent_start = self.options.budget, start
                table.fast(row, self.context, self.options, memory)
                continue
            table.dense(row, self.context)
            if row < slow:
                table.slow_row(row, self.context, self.options, memory)
        table.load(programs // KV, splits)
        return table

    def attend(self, table: RowTable, tap: bool, layers: int = LAYERS, merge: bool = True) -> None:
        locate(self.memory.positions, self.req_to_token, self.pool_rows, table.rows, self.memory.slots)
        for layer in range(layers):
            decode(
                self.q, self.keys[layer % 2], self.values[layer % 2], self.req_to_token, self.pool_rows,
                self.memory.slots[:, layer], table.rows, self.buffers, self.out, SCALE, table.splits, tap,
            )  # fmt: skip
            if tap and merge:
                evidence.merge_logits(self.buffers, table.rows, table.owners, self.scores[0, layer])

    def refresh(self, table: RowTable) -> None:
        stages.apply(self.scores, table.rows, table.slow_rows, table.owners, HEADS // KV)
        select.select(self.scores, table.rows, table.slow_rows, self.memory.positions)

    def error(self, table: RowTable, row: int) -> float:
        """Relative error of one row's attention against float64."""
        self.attend(table, False, layers=1)
        line = table.lines[row]
        if line[0] == self.context:
            positions = torch.arange(self.context, device="cuda").expand(KV, -1)
        else:
            ends = torch.cat([torch.arange(4), torch.arange(int(line[2]), self.context)]).cuda()
            positions = torch.cat([ends.expand(KV, -1), self.memory.positions[row, 0].long()], 1)
        slots = self.req_to_token[row][positions].long()
        heads = torch.arange(KV, device="cuda")[:, None]
        k, v = self.keys[0][slots, heads].double(), self.values[0][slots, heads].double()
        exact = (self.q[row].view(KV, -1, DIM).double() @ k.mT * SCALE).softmax(-1) @ v
        return float((self.out[row].view(KV, -1, DIM).double() - exact).norm() / exact.norm())


def gather(bench: Bench, tokens: int):
    """What random reads of one KV head's key or value cost at least: a copy of as many, by PyTorch's index_select."""
    index = torch.randint(bench.keys.shape[1] * KV, (tokens * KV,), device="cuda")
    out = torch.empty(tokens * KV, DIM, dtype=torch.bfloat16, device="cuda")

    def run():
        for layer in range(LAYERS):
            for pool in (bench.keys, bench.values):
                torch.index_select(pool[layer % 2].view(-1, DIM), 0, index, out=out)

    return run


def flashinfer_sparse(bench: Bench, table: RowTable) -> float:
    """The same fast rows through FlashInfer's per-KV-head paged view, one plan for all layers: packed indices given."""
    import flashinfer

    rows, n = bench.batch * KV, int(table.lines[0, 0] + table.lines[0, 1] + table.lines[0, 3] - table.lines[0, 2])
    index = torch.randint(bench.keys.shape[1], (rows, n), device="cuda") * KV + torch.arange(KV, device="cuda").repeat(
        bench.batch
    ).view(rows, 1)
    indptr = torch.arange(rows + 1, dtype=torch.int32) * n
    last = torch.ones(rows, dtype=torch.int32)
    wrapper = flashinfer.BatchDecodeWithPagedKVCacheWrapper(
        torch.zeros(256 * MB, dtype=torch.uint8, device="cuda"), "NHD", use_cuda_graph=True, use_tensor_cores=True,
        paged_kv_indptr_buffer=indptr.cuda(), paged_kv_indices_buffer=index.flatten().int(),
        paged_kv_last_page_len_buffer=last.cuda(),
    )  # fmt: skip
    kinds = {"q_data_type": torch.bfloat16, "kv_data_type": torch.bfloat16}
    wrapper.plan(indptr, index.flatten().int(), last, HEADS // KV, 1, DIM, 1, **kinds)
    q = bench.q.view(rows, HEADS // KV, DIM)

    def run():
        for layer in range(LAYERS):
            k, v = (pool[layer % 2].view(-1, 1, 1, DIM) for pool in (bench.keys, bench.values))
            wrapper.run(q, (k, v))

    return graph_time(run)


def flashinfer_dense(bench: Bench) -> float:
    """SGLang's dense decode: the paged wrapper, page size 1."""
    import flashinfer

    n = bench.batch * bench.context
    indptr = torch.arange(bench.batch + 1, dtype=torch.int32) * bench.context
    last = torch.ones(bench.batch, dtype=torch.int32)
    index = bench.req_to_token.flatten()
    wrapper = flashinfer.BatchDecodeWithPagedKVCacheWrapper(
        torch.zeros(512 * MB, dtype=torch.uint8, device="cuda"), "NHD", use_cuda_graph=True, use_tensor_cores=True,
        paged_kv_indptr_buffer=indptr.cuda(), paged_kv_indices_buffer=index.clone(),
        paged_kv_last_page_len_buffer=last.cuda(),
    )  # fmt: skip
    kinds = {"q_data_type": torch.bfloat16, "kv_data_type": torch.bfloat16}
    wrapper.plan(indptr, index, last, HEADS, KV, DIM, 1, **kinds)
    assert n == index.numel()

    def run():
        for layer in range(LAYERS):
            pool = [part[layer % 2].view(-1, 1, KV, DIM) for part in (bench.keys, bench.values)]
            wrapper.run(bench.q, tuple(pool))

    return graph_time(run)


def main(
    cases: Annotated[str, typer.Option(help="batch x context tokens")] = "1x131072,8x32768,8x8192",
    budget: int = 1536,
    out: Annotated[Path | None, typer.Option(help="write JSON here")] = None,
) -> None:
    """Time the kernels."""
    options = SFIOptions(budget=budget)
    bandwidth = copy_bandwidth()
    results: list[Result] = []

    def add(name: str, bench: Bench, microseconds: float, size: float, error: float | None = None) -> None:
        rate = size / microseconds / 1e3
        results.append(Result(name, bench.batch, bench.context, microseconds, size / MB, rate, bandwidth / rate, error))
        print(f"{bench.batch} x {bench.context} {name}: {microseconds:.0f} us, {rate:.0f} GB/s", flush=True)

    token = 2 * KV * DIM * 2 * LAYERS  # bytes of keys and values
    for batch, context in parse_cases(cases):
        bench = Bench(batch, context, options)
        fast = bench.table(0, batch)
        sparse = (4 + budget + context - options.recent_start(context)) * batch * token
        add("fast", bench, graph_time(lambda b=bench, t=fast: b.attend(t, False)), sparse, bench.error(fast, 0))
        add("gather of the same keys and values", bench, graph_time(gather(bench, sparse // token)), 2 * sparse)
        add("fast, FlashInfer per head", bench, flashinfer_sparse(bench, fast), sparse)
        dense = bench.table(0, 0)
        full = context * batch * token
        add("dense, FlashInfer", bench, flashinfer_dense(bench), full)
        add("dense", bench, graph_time(lambda b=bench, t=dense: b.attend(t, False)), full, bench.error(dense, 0))
        slow = bench.table(1, batch - 1)
        mixed = context * token + sparse * (batch - 1) // batch
        add("1 slow, others fast", bench, graph_time(lambda b=bench, t=slow: b.attend(t, True)), mixed)
        alone = graph_time(lambda b=bench, t=slow: b.attend(t, True, merge=False))
        add("1 slow, others fast, evidence not merged", bench, alone, mixed)
        scores = 2 * LAYERS * KV * context * 4
        add("refresh of 1 row", bench, graph_time(lambda b=bench, t=slow: b.refresh(t)), scores)
        all_slow = bench.table(batch, 0)
        add("all slow", bench, graph_time(lambda b=bench, t=all_slow: b.attend(t, True)), full)
        add("refresh of all rows", bench, graph_time(lambda b=bench, t=all_slow: b.refresh(t)), scores * batch)
        queries = torch.randn(KV, 16 * HEADS // KV, DIM, dtype=torch.bfloat16, device="cuda")

        def prompt(b=bench, q=queries):
            count = options.recent_start(b.context) - options.sink
            for layer in range(LAYERS):
                line = b.scores[0, layer, :, :count]
                slots = b.req_to_token[0, 4 : 4 + count].expand(KV, count)
                evidence.prompt_evidence(q, b.keys[layer % 2], slots, SCALE, False, line)

        add("prompt evidence of 1 row", bench, graph_time(prompt), context * token)
        del bench
        torch.cuda.empty_cache()
    for r in results:
        error = "" if r.error is None else f", error {r.error:.1e}"
        console.print(
            f"{r.batch} x {r.context} {r.name}: {r.microseconds:.0f} µs, {r.gb_per_s:.0f} GB/s, "
            f"{r.floor:.2f} x floor{error}",
            soft_wrap=True,
        )
    console.print(f"copy: {bandwidth:.0f} GB/s")
    if out:
        rows = [asdict(r) for r in results]
        out.write_text(
            json.dumps({**provenance(), "budget": budget, "copy_gb_per_s": bandwidth, "results": rows}, indent=1)
        )


if __name__ == "__main__":
    typer.run(main)
