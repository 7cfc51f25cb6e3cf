"""Attention of new prompt tokens on a long cached prefix on a GPU: dense with FlashAttention 3 against sparse extend.

    python -m benchmarks.extend_gpu --out result.json

Qwen3-4B's shape, bf16, page size 1, one prompt; all 36 layers in one CUDA graph on random keys and values, medians of
replays. `sparse` is made of: `choose`, every GROUP-th query's attention to blocks of the prefix (kernels/block_mass.py)
and the best blocks; `attend`, SGLang's block-sparse prefill kernel over sink, chosen, recent and new tokens; `tail`,
the last tokens densely. Random keys choose blocks all over the prefix, so nothing is shared between groups: real ones
do better. Floors: the fewest FLOPs at `--teraflops`, the fewest bytes at the copy bandwidth, whichever takes longer.
Without a GPU `choose` alone runs, interpreted, on a tiny shape: a rehearsal.
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

from benchmarks.attention_bench import DEVICE, DTYPE, GPU, SHAPES, graph_time
from benchmarks.kernels_gpu import copy_bandwidth
from sfi_sglang.api.options import EXTEND_TAIL, SFIOptions
from sfi_sglang.attention.sparse_extend import Sparsity
from sfi_sglang.client.provenance import provenance
from sfi_sglang.kernels.block_mass import BLOCK_TOKENS, block_mass, tiles_of
from sfi_sglang.selection.scoring import Scoring
from sfi_sglang.terminal import console

SPLITS = 32  # of the prefix, in `choose`


@dataclass
class Result:
    """microseconds: of all layers. flops, bytes: the fewest. floor: microseconds that these take. error: relative, of
    one layer against float64 over the same blocks."""

    name: str
    prefix: int
    new: int
    microseconds: float
    flops: float
    bytes: float
    floor: float
    error: float | None = None


class Case:
    """One prompt. keys, values: two layers' worth that all layers take in turn."""

    def __init__(self, shape: str, prefix: int, new: int, options: SFIOptions) -> None:
        self.layers, self.heads, self.kv_heads, self.dim = SHAPES[shape]
        self.prefix, self.new, self.how = prefix, new, Sparsity.of(options, EXTEND_TAIL)
        self.sparse, self.length = new - EXTEND_TAIL, prefix + new
        self.keys = torch.randn(2, self.length, self.kv_heads, self.dim, dtype=DTYPE, device=DEVICE)
        self.values = torch.randn_like(self.keys)
        self.q = torch.randn(new, self.heads, self.dim, dtype=DTYPE, device=DEVICE)
        self.tokens = torch.randperm(self.length, device=DEVICE).int()[None]
        self.scoring = Scoring(self.dim**-0.5)
        self.ints = dict[tuple[int, ...], Tensor]()
        self._list_blocks()

    def _list_blocks(self) -> None:
        """What is the same in all layers: tiles of slow queries, and the blocks that each group sees, sink first, then
        room for the chosen ones, then recent and new ones; -1 pads."""
        candidates = self.how.candidates(self.prefix)
        self.blocks = range(candidates.start // BLOCK_TOKENS, candidates.stop // BLOCK_TOKENS)
        self.sink, self.chosen = self.blocks.start, -(-self.how.budget // BLOCK_TOKENS)
        tiles, counts = tiles_of([(0, 0, self.sparse, self.blocks)], self.how.group, self.heads // self.kv_heads)
        self.tiles, self.counts = tiles.to(DEVICE), counts.to(DEVICE)
        groups = len(counts)
        self.lse = torch.empty(groups * self.heads, len(self.blocks), device=DEVICE)
        self.mass = torch.empty(groups, self.kv_heads, len(self.blocks), device=DEVICE)
        last = (self.prefix + torch.arange(1, groups + 1) * self.how.group - 1) // BLOCK_TOKENS  # a group's last block
        rest = self.blocks.stop + torch.arange(int(last[-1]) + 1 - self.blocks.stop).expand(groups, -1)
        rest = rest.where(rest <= last[:, None], -1)
        line = [torch.arange(self.sink).expand(groups, -1), torch.zeros(groups, self.chosen), rest]
        self.lists = torch.cat(line, 1).int().expand(self.kv_heads, -1, -1).contiguous().to(DEVICE)

    def choose(self, layer: int) -> None:
        block_mass(
            self.q, self.keys[layer % 2], self.tokens, self.tiles, self.counts, self.scoring, self.how.group,
            self.lse, self.mass, SPLITS,
        )  # fmt: skip
        best = self.mass.topk(self.chosen, -1, sorted=False).indices + self.blocks.start
        self.lists[:, :, self.sink : self.sink + self.chosen] = best.transpose(0, 1)

    def attend(self, layer: int) -> Tensor:
        from sglang.kernels.ops.attention.minimax_sparse.prefill.topk_sparse import flash_prefill_with_gqa_share_sparse

        out: Tensor = flash_prefill_with_gqa_share_sparse(
            self.q[: self.sparse], self.keys[layer % 2], self.values[layer % 2], None, self.tokens,
            self._ints(0), self.lists, self.how.group, BLOCK_TOKENS, self._ints(0, self.sparse),
            self._ints(self.length - EXTEND_TAIL), self._ints(self.prefix), self.sparse,
            cu_seqblocks_q=self._ints(0, len(self.counts)), max_seqblock_q=len(self.counts),
        )  # fmt: skip
        return out

    def dense(self, layer: int, queries: int) -> Tensor:
        """The last `queries` tokens."""
        from sgl_kernel.flash_attn import flash_attn_with_kvcache

        keys, values = (pool[layer % 2].unsqueeze(1) for pool in (self.keys, self.values))
        out: Tensor = flash_attn_with_kvcache(
            q=self.q[-queries:], k_cache=keys, v_cache=values, page_table=self.tokens,
            cache_seqlens=self._ints(self.length), cu_seqlens_q=self._ints(0, queries), max_seqlen_q=queries,
            softmax_scale=self.dim**-0.5, causal=True,
        )  # fmt: skip
        return out

    def _ints(self, *values: int) -> Tensor:
        """On the device, made once: a copy has no place in a graph."""
        if values not in self.ints:
            self.ints[values] = torch.tensor(values, dtype=torch.int32, device=DEVICE)
        return self.ints[values]

    def all_layers(self, *steps: Callable[[int], object]) -> float:
        """Microseconds."""

        def run() -> None:
            for layer in range(self.layers):
                for step in steps:
                    step(layer)

        return graph_time(run)

    def error(self, layer: int = 0) -> float:
        """Largest relative error of `attend` over some queries, against float64 over the blocks in the lists."""
        self.choose(layer)
        out, worst = self.attend(layer), 0.0
        for row in range(0, self.sparse, max(self.sparse // 8, 1)):
            for head in range(0, self.heads, self.heads // 4):
                kv = head * self.kv_heads // self.heads
                blocks = self.lists[kv, row // self.how.group]
                blocks = blocks[blocks >= 0].long()
                seen = (blocks[:, None] * BLOCK_TOKENS + torch.arange(BLOCK_TOKENS, device=DEVICE)).flatten()
                slots = self.tokens[0, seen[seen <= self.prefix + row]].long()
                k, v = (pool[layer % 2][slots, kv].double() for pool in (self.keys, self.values))
                exact = (k @ self.q[row, head].double() * self.scoring.scale).softmax(-1) @ v
                worst = max(worst, float((out[row, head].double() - exact).norm() / exact.norm()))
        return worst

    def work(self, queries: int, seen: float) -> tuple[float, float]:
        """FLOPs and bytes of `queries` that see `seen` tokens each; keys, values, queries and outputs move once."""
        flops = 4 * queries * seen * self.heads * self.dim
        tokens = 2 * seen * self.kv_heads + 2 * queries * self.heads
        return flops * self.layers, tokens * self.dim * self.keys.element_size() * self.layers


def measure(case: Case, bandwidth: float, teraflops: float) -> list[Result]:
    seen = case.sink * BLOCK_TOKENS + case.how.budget + case.how.recent + case.sparse / 2
    scored = case.work(len(case.counts), case.prefix)
    works = {
        "choose": (scored[0] / 2, scored[1] / 2),  # no values
        "attend": case.work(case.sparse, seen),
        "tail": case.work(EXTEND_TAIL, case.length),
        "dense": case.work(case.new, case.prefix + case.new / 2),
    }
    parts = [works[name] for name in ("choose", "attend", "tail")]
    works["sparse"] = sum(flops for flops, _ in parts), sum(size for _, size in parts)
    tail, dense = partial(case.dense, queries=EXTEND_TAIL), partial(case.dense, queries=case.new)
    steps: dict[str, tuple[Callable[[int], object], ...]] = {"choose": (case.choose,)}
    if GPU:
        steps |= {"attend": (case.attend,), "tail": (tail,), "dense": (dense,)}
        steps["sparse"] = (case.choose, case.attend, tail)
    found = []
    for name, layer in steps.items():
        microseconds, (flops, size) = case.all_layers(*layer), works[name]
        floor = max(flops / teraflops / 1e6, size / bandwidth / 1e3)
        error = case.error() if name == "attend" else None
        found.append(Result(name, case.prefix, case.new, microseconds, flops, size, floor, error))
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
    table = Table("prefix", "new", *("dense", "sparse", "x", "choose", "attend", "tail"), title="ms, all layers")
    for prefix, count in dict.fromkeys((one.prefix, one.new) for one in results):
        of = {one.name: one.microseconds / 1e3 for one in results if (one.prefix, one.new) == (prefix, count)}
        ratio = f"{of['dense'] / of['sparse']:.1f}" if "sparse" in of else ""
        ms = {name: f"{of[name]:.2f}" if name in of else "" for name in ("dense", "sparse", "choose", "attend", "tail")}
        table.add_row(f"{prefix}", f"{count}", ms["dense"], ms["sparse"], ratio, *list(ms.values())[2:])
    console.print(table)
    if out:
        settings = {"budget": budget, "copy_gb_per_s": bandwidth, "teraflops": teraflops, "triton": triton.__version__}
        rows = [asdict(one) for one in results]
        out.write_text(json.dumps({**provenance(), **settings, "results": rows}, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
