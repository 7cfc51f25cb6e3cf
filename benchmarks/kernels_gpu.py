"""Kernels on a GPU: time, bytes, achieved bandwidth, ratio to the memory-bound floor, error against float64.

    python -m benchmarks.kernels_gpu --out result.json

Limits of Qwen3-4B: 36 layers, 32 heads, 8 KV heads, head dim 128, bf16. Every case runs all layers inside one CUDA
graph, on random data (attention_bench.py); medians of replays. Bytes are the fewest that must move: keys and values of
the visible tokens, scores once in and once out.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import torch
import triton
import triton.language as tl
import typer

from benchmarks.attention_bench import DEVICE, DTYPE, GPU, SHAPES, Bench, graph_time, time_once
from benchmarks.decode_gpu import parse_cases
from sfi_sglang.api.options import PROMPT_QUERIES, SFIOptions
from sfi_sglang.client.provenance import provenance
from sfi_sglang.kernels import evidence
from sfi_sglang.kernels.launch import FAST, MIXED
from sfi_sglang.selection.limits import MB
from sfi_sglang.terminal import console


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


def copy_bandwidth() -> float:
    """GB/s of a device-to-device copy, bytes read and written."""
    source = torch.empty(4 << 30 if GPU else 1 << 20, dtype=torch.uint8, device=DEVICE)
    target = torch.empty_like(source)
    return 2 * source.nbytes / time_once(lambda: target.copy_(source)) / 1e3


@triton.jit
def _read(k_ptr, v_ptr, slots, out, n, KV: tl.constexpr, D: tl.constexpr, BLOCK: tl.constexpr):
    """Sum n keys and values of one KV head."""
    head, line = tl.program_id(0), tl.program_id(1)
    slots += (line * KV + head) * n
    total = tl.zeros([BLOCK, D], tl.float32)
    for start in range(0, n, BLOCK):
        i = start + tl.arange(0, BLOCK)
        slot = tl.load(slots + i, mask=i < n, other=0).to(tl.int64)
        offset = (slot[:, None] * KV + head) * D + tl.arange(0, D)[None, :]
        inside = (i < n)[:, None]
        total += tl.load(k_ptr + offset, mask=inside, other=0.0) + tl.load(v_ptr + offset, mask=inside, other=0.0)
    tl.store(out + line * KV + head, tl.sum(total))


def read_only(bench: Bench, tokens: int) -> Callable[[], None]:
    """As many random keys and values of single KV heads as a fast step reads, and nothing else: what their place in
    memory costs. A program reads 64 of each, and a GPU holds many programs."""
    shape, n = bench.limits, 64
    grid = (shape.kv_heads, triton.cdiv(tokens, n))
    slots = torch.randint(bench.keys.shape[1], (*grid[::-1], n), dtype=torch.int32, device=DEVICE)
    out = torch.empty(grid[::-1], device=DEVICE)

    def run() -> None:
        for layer in range(shape.layers):
            keys, values = bench.keys[layer % 2], bench.values[layer % 2]
            _read[grid](keys, values, slots, out, n, KV=shape.kv_heads, D=shape.dim, BLOCK=32, num_warps=4)

    return run


def flashinfer(bench: Bench, per_head: bool) -> float:
    """Microseconds of FlashInfer's paged decode, one plan for all layers. per_head: fast rows, each KV head a row of
    its own, page numbers given; else SGLang's dense decode."""
    from flashinfer import BatchDecodeWithPagedKVCacheWrapper

    shape = bench.limits
    group, kv_heads = (shape.heads // shape.kv_heads, 1) if per_head else (shape.heads, shape.kv_heads)
    rows, n = (
        (bench.batch * shape.kv_heads, int(bench.metadata.visible[0])) if per_head else (bench.batch, bench.context)
    )
    if per_head:
        heads = torch.arange(shape.kv_heads, device=DEVICE).repeat(bench.batch)[:, None]
        index = torch.randint(bench.keys.shape[1], (rows, n), device=DEVICE) * shape.kv_heads + heads
    else:
        index = bench.req_to_token
    indptr, last = torch.arange(rows + 1, dtype=torch.int32) * n, torch.ones(rows, dtype=torch.int32)
    index = index.flatten().int()
    wrapper = BatchDecodeWithPagedKVCacheWrapper(
        torch.zeros(512 * MB, dtype=torch.uint8, device=DEVICE), "NHD", use_cuda_graph=True, use_tensor_cores=True,
        paged_kv_indptr_buffer=indptr.to(DEVICE), paged_kv_indices_buffer=index.clone(),
        paged_kv_last_page_len_buffer=last.to(DEVICE),
    )  # fmt: skip
    kinds = {"q_data_type": DTYPE, "kv_data_type": DTYPE}
    wrapper.plan(indptr, index, last, group, kv_heads, shape.dim, 1, **kinds)
    q = bench.q.view(rows, group, shape.dim)

    def run() -> None:
        for layer in range(shape.layers):
            wrapper.run(
                q, tuple(pool[layer % 2].view(-1, 1, kv_heads, shape.dim) for pool in (bench.keys, bench.values))
            )

    return graph_time(run)


def prompt(bench: Bench) -> Callable[[], None]:
    """The evidence of a prompt's last queries, as a function to be timed."""
    shape, first = bench.limits, bench.options.sink
    count = bench.options.candidates(bench.context)
    rows = PROMPT_QUERIES * shape.heads // shape.kv_heads
    queries = torch.randn(shape.kv_heads, rows, shape.dim, dtype=DTYPE, device=DEVICE)
    slots = bench.req_to_token[0, first : first + count].expand(shape.kv_heads, count)

    def run() -> None:
        for layer in range(shape.layers):
            line = bench.workspace.scores[0, layer, :, :count]
            evidence.prompt_evidence(queries, bench.keys[layer % 2], slots, bench.scoring, False, line)

    return run


def main(
    cases: Annotated[str, typer.Option(help="batch x context tokens")] = "1x131072,8x32768,8x8192",
    budget: int = 1536,
    shape: Annotated[str, typer.Option(help=", ".join(SHAPES))] = "qwen3-4b",
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

    for batch, context in parse_cases(cases):
        bench = Bench(shape, batch, context, options)
        token = bench.keys[0, 0].nbytes * 2 * bench.limits.layers  # keys and values
        bench.fill(0, batch)
        sparse = int(bench.metadata.visible[0]) * batch * token
        add("fast", bench, graph_time(bench.attend(FAST, logits_out=False)), sparse, bench.error(0))
        add("random reads alone", bench, graph_time(read_only(bench, sparse // token)), sparse)
        if GPU:
            add("fast, FlashInfer per head", bench, flashinfer(bench, per_head=True), sparse)
        full = context * batch * token
        if GPU:
            add("dense, FlashInfer", bench, flashinfer(bench, per_head=False), full)
        bench.fill(0, 0)
        add("dense", bench, graph_time(bench.attend(FAST, logits_out=False)), full, bench.error(0))
        bench.fill(1, batch - 1)
        mixed = context * token + sparse * (batch - 1) // batch
        add("1 slow, others fast", bench, graph_time(bench.attend(MIXED, logits_out=True, merge=True)), mixed)
        alone = graph_time(bench.attend(MIXED, logits_out=True))
        add("1 slow, others fast, evidence not merged", bench, alone, mixed)
        scores = 2 * bench.limits.layers * bench.limits.kv_heads * context * 4
        add("refresh of 1 row", bench, graph_time(bench.refresh), scores)
        bench.fill(batch, 0)
        add("all slow", bench, graph_time(bench.attend(MIXED, logits_out=True, merge=True)), full)
        add("refresh of all rows", bench, graph_time(bench.refresh), scores * batch)
        add("prompt evidence of 1 row", bench, graph_time(prompt(bench)), context * token)
        del bench
        if GPU:
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
