"""Attention of new prompt tokens on a long cached prefix on a GPU: dense with FlashAttention 3 against sparse extend.

    python -m benchmarks.extend_gpu --out result.json

Qwen3-4B's shape, bf16, page size 1, one prompt; all 36 layers in one CUDA graph on random keys and values, medians of
replays. `sparse` is made of: each group's `choice` of blocks of the prefix; `groups`, attention to what was chosen,
through FlashAttention too; and `ends`, attention of the last tokens to everything. `triton`: `groups` through our
kernel. Random keys choose blocks all over the prefix, so nothing is shared between groups: real ones do better. Floors:
the fewest FLOPs at `--teraflops`, the fewest bytes at the copy bandwidth, whichever takes longer. Without a GPU it runs
without FlashAttention, interpreted, on a tiny shape: a rehearsal.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
import triton
import typer
from rich.table import Table
from torch import Tensor

from benchmarks.attention_bench import DEVICE, DTYPE, GPU, PROCESSORS, SHAPES, graph_time
from benchmarks.kernels_gpu import copy_bandwidth
from sfi_sglang.api.options import EXTEND_TAIL, SFIOptions
from sfi_sglang.attention.layers import CoveredLayers
from sfi_sglang.attention.prompts import Prompt
from sfi_sglang.attention.sparse_extend import Sparsity
from sfi_sglang.attention.sparse_prefill import SparsePrefill
from sfi_sglang.attention.triton_groups import TritonGroups
from sfi_sglang.client.provenance import provenance
from sfi_sglang.selection.scoring import Scoring
from sfi_sglang.terminal import console

PARTS = ("ends", "choice", "groups")


@dataclass
class Result:
    """microseconds: of all layers. flops, bytes: the fewest. floor: microseconds that these take."""

    name: str
    prefix: int
    new: int
    microseconds: float
    flops: float
    bytes: float
    floor: float


class Case:
    """One prompt. keys, values: two layers' worth that all layers take in turn."""

    def __init__(self, shape: str, prefix: int, new: int, options: SFIOptions) -> None:
        self.layers, self.heads, self.kv_heads, self.dim = SHAPES[shape]
        self.prefix, self.new, self.how = prefix, new, Sparsity.of(options, EXTEND_TAIL)
        self.sparse, self.length = new - EXTEND_TAIL, prefix + new
        self.keys = torch.randn(2, self.length, self.kv_heads, self.dim, dtype=DTYPE, device=DEVICE)
        self.values = torch.randn_like(self.keys)
        self.q = torch.randn(new, self.heads, self.dim, dtype=DTYPE, device=DEVICE)
        self.out = torch.empty_like(self.q)
        self.tokens = torch.randperm(self.length, device=DEVICE).int()[None]
        self.scoring = Scoring(self.dim**-0.5)
        layers = CoveredLayers(tuple(range(self.layers)), self.heads, self.kv_heads, self.dim)
        self.ours = SparsePrefill(layers, self.tokens, PROCESSORS, flash=GPU)
        self.load([Prompt(0, range(new), self.sparse, prefix, self.how)])
        self.chosen = self.ours.choose(self.q, self.keys[0], self.scoring)

    def load(self, prompts: list[Prompt]) -> None:
        """The tables, which hang on launch settings."""
        self.ours.load(prompts)
        self.through_triton = TritonGroups(prompts, self.ours.layers, self.tokens)

    def ends(self, layer: int) -> None:
        pool = self.keys[layer % 2], self.values[layer % 2]
        self.ours.attend_ends(self.q, *pool, self.scoring, self.out)

    def choice(self, layer: int) -> Tensor:
        return self.ours.choose(self.q, self.keys[layer % 2], self.scoring)

    def groups(self, layer: int) -> None:
        pool = self.keys[layer % 2], self.values[layer % 2]
        self.ours.attend_groups(self.q, *pool, self.chosen, self.scoring, self.out)

    def triton(self, layer: int) -> None:
        pool = self.keys[layer % 2], self.values[layer % 2]
        self.through_triton.run(self.q, *pool, self.chosen, self.scoring, self.out)

    def whole(self, layer: int) -> None:
        self.ours.run(self.q, self.keys[layer % 2], self.values[layer % 2], self.scoring, self.out)

    def dense(self, layer: int, lengths: Tensor, starts: Tensor) -> Tensor:
        from sgl_kernel.flash_attn import flash_attn_with_kvcache

        keys, values = (pool[layer % 2].unsqueeze(1) for pool in (self.keys, self.values))
        out: Tensor = flash_attn_with_kvcache(
            q=self.q, k_cache=keys, v_cache=values, page_table=self.tokens, cache_seqlens=lengths,
            cu_seqlens_q=starts, max_seqlen_q=self.new, softmax_scale=self.dim**-0.5, causal=True,
        )  # fmt: skip
        return out

    def all_layers(self, step: Callable[[int], object]) -> float:
        """Microseconds."""

        def run() -> None:
            for layer in range(self.layers):
                step(layer)

        return graph_time(run)

    def work(self, queries: int, seen: float) -> tuple[float, float]:
        """FLOPs and bytes of `queries` that see `seen` tokens each; keys, values, queries and outputs move once."""
        flops = 4 * queries * seen * self.heads * self.dim
        tokens = 2 * seen * self.kv_heads + 2 * queries * self.heads
        return flops * self.layers, tokens * self.dim * self.keys.element_size() * self.layers


def measure(case: Case, bandwidth: float, teraflops: float) -> list[Result]:
    sink, groups = case.how.candidates(case.prefix).start, len(case.ours.prompts[0].first)
    scored = case.work(groups, case.prefix)
    works = {
        "ends": case.work(EXTEND_TAIL, case.length),
        "choice": (scored[0] / 2, scored[1] / 2),  # no values
        "groups": case.work(case.sparse, sink + case.how.budget + case.how.recent + case.sparse / 2),
        "dense": case.work(case.new, case.prefix + case.new / 2),
    }
    works["triton"] = works["groups"]
    works["sparse"] = sum(works[name][0] for name in PARTS), sum(works[name][1] for name in PARTS)
    steps: dict[str, Callable[[int], object]] = {
        "ends": case.ends,
        "choice": case.choice,
        "groups": case.groups,
        "triton": case.triton,
        "sparse": case.whole,
    }
    if GPU:
        lengths = torch.tensor([case.length], dtype=torch.int32, device=DEVICE)
        steps["dense"] = partial(case.dense, lengths=lengths, starts=lengths.new_tensor([0, case.new]))
    found = []
    for name, layer in steps.items():
        microseconds, (flops, size) = case.all_layers(layer), works[name]
        floor = max(flops / teraflops / 1e6, size / bandwidth / 1e3)
        found.append(Result(name, case.prefix, case.new, microseconds, flops, size, floor))
        print(f"{case.prefix} + {case.new} {name}: {microseconds / 1e3:.2f} ms, {microseconds / floor:.1f} x floor")
    return found


def main(
    prefixes: str = "32768,65536,131072,153600",
    new: str = "512,1536,4096",
    budget: int = 2048,
    teraflops: Annotated[float, typer.Option(help="bf16, of the GPU's matrix products")] = 790,
    out: Annotated[Path | None, typer.Option(help="write JSON here")] = None,
) -> None:
    """Dense and sparse extend."""
    options, bandwidth, results = SFIOptions(budget=budget, extend="sparse"), copy_bandwidth(), list[Result]()
    for prefix in map(int, prefixes.split(",")):
        for count in map(int, new.split(",")):
            case = Case("qwen3-4b" if GPU else "tiny", prefix, count, options)
            results += measure(case, bandwidth, teraflops)
    table = Table("prefix", "new", "dense", "sparse", "x", *PARTS, "triton", title="ms, all layers")
    for prefix, count in dict.fromkeys((one.prefix, one.new) for one in results):
        of = {one.name: one.microseconds / 1e3 for one in results if (one.prefix, one.new) == (prefix, count)}
        ratio = f"{of['dense'] / of['sparse']:.1f}" if "dense" in of else ""
        ms = [f"{of[name]:.2f}" if name in of else "" for name in ("dense", "sparse", *PARTS, "triton")]
        table.add_row(f"{prefix}", f"{count}", *ms[:2], ratio, *ms[2:])
    console.print(table)
    if out:
        settings = {"budget": budget, "copy_gb_per_s": bandwidth, "teraflops": teraflops, "triton": triton.__version__}
        rows = [asdict(one) for one in results]
        out.write_text(json.dumps({**provenance(), **settings, "results": rows}, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
