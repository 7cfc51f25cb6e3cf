"""Launch settings of the kernel of wide rows (kernels/wide.py), tried on this GPU.

    python -m benchmarks.sweep_wide --cases 1x131072,1x51200,8x32768 --queries 11,25,64 --out result.json

Every row of the batch is slow and wide: `queries` tokens of each read its context together, and it leaves evidence
(`--no-evidence`: it does not). `flash`: FlashAttention 3, which leaves none. Random data, all layers in one CUDA graph,
as in attention_bench.py. The floor reads keys and values once at the copy bandwidth, or computes what is needed at
`--teraflops`, whichever takes longer.
"""

import itertools
import json
from pathlib import Path
from typing import Annotated, Any
from unittest.mock import patch

import torch
import typer
from rich.table import Table
from triton.runtime.errors import OutOfResources

from benchmarks.attention_bench import DEVICE, DTYPE, GPU, PROCESSORS, SHAPES, graph_time
from benchmarks.decode_gpu import parse_cases
from benchmarks.kernels_gpu import copy_bandwidth
from benchmarks.sweep_gpu import numbers
from sfi_sglang.api.options import EVIDENCE_PAGE, evidence_pages
from sfi_sglang.attention.pass_metadata import PassMetadata, Pieces
from sfi_sglang.client.provenance import provenance
from sfi_sglang.kernels import launch
from sfi_sglang.kernels.decode import DecodeBuffers
from sfi_sglang.kernels.launch import WideLaunch
from sfi_sglang.kernels.wide import attend_wide
from sfi_sglang.scheduling.request_state import Refresh
from sfi_sglang.selection.scoring import Scoring
from sfi_sglang.terminal import console, progress

SINK, RECENT, KEEP, SPLITS = 4, 1024, 1536, 64


class Case:
    """keys, values: two layers' worth that all layers take in turn."""

    def __init__(self, shape: str, batch: int, context: int, queries: int) -> None:
        self.layers, self.heads, self.kv_heads, self.dim = SHAPES[shape]
        self.batch, self.context, self.queries = batch, context, queries
        slots, rows = batch * context, batch * queries
        self.keys = torch.randn(2, slots, self.kv_heads, self.dim, dtype=DTYPE, device=DEVICE)
        self.values = torch.randn_like(self.keys)
        self.q = torch.randn(rows, self.heads, self.dim, dtype=DTYPE, device=DEVICE)
        self.tokens = torch.randperm(slots, device=DEVICE).int().view(batch, context)
        self.lines = torch.cat([torch.arange(batch), torch.arange(batch).repeat_interleave(queries - 1)]).to(DEVICE)
        self.evidence = batch * evidence_pages(context) * EVIDENCE_PAGE
        of_layer = self.heads, self.kv_heads, self.dim, rows * SPLITS, self.evidence
        self.buffers = DecodeBuffers.allocate(rows, *of_layer, torch.device(DEVICE))
        self.scoring = Scoring(self.dim**-0.5)

    def metadata(self, setting: WideLaunch) -> PassMetadata:
        tile, others = setting.queries(self.heads // self.kv_heads), self.queries - 1
        tiles, wave = -(-self.queries // tile) * self.batch, setting.programs(PROCESSORS, self.kv_heads)
        metadata = PassMetadata(len(self.q), self.evidence, DEVICE, Pieces(8, tiles, tile, wave))
        for row in range(self.batch):
            metadata.dense(row, self.context)
            metadata.refresh(row, Refresh(SINK, self.context - SINK - RECENT, KEEP), line=row, stages=0)
            metadata.widen(row, self.batch + row * others, range(self.context - self.queries, self.context - 1))
        metadata.load(len(self.q), PROCESSORS, SPLITS, setting.tokens(self.dim))
        return metadata

    def time(self, setting: WideLaunch, evidence: bool) -> float:
        """Microseconds of all layers."""
        with patch.object(launch, "TILE_NUMBERS", setting.block * self.dim):
            metadata = self.metadata(setting)
            pool = self.tokens, self.lines, metadata.rows, metadata.wide_pieces, self.buffers, self.scoring

            def run() -> None:
                for layer in range(self.layers):
                    attend_wide(self.q, self.keys[layer % 2], self.values[layer % 2], *pool, setting, evidence)

            return graph_time(run)

    def flash(self) -> float:
        """Microseconds of all layers."""
        from sgl_kernel.flash_attn import flash_attn_with_kvcache

        lengths = torch.full([self.batch], self.context, dtype=torch.int32, device=DEVICE)
        starts = torch.arange(self.batch + 1, dtype=torch.int32, device=DEVICE) * self.queries

        def run() -> None:
            for layer in range(self.layers):
                keys, values = (pool[layer % 2].unsqueeze(1) for pool in (self.keys, self.values))
                flash_attn_with_kvcache(
                    q=self.q, k_cache=keys, v_cache=values, page_table=self.tokens, cache_seqlens=lengths,
                    cu_seqlens_q=starts, max_seqlen_q=self.queries, softmax_scale=self.dim**-0.5, causal=True,
                )  # fmt: skip

        return graph_time(run)

    def floor(self, bandwidth: float, teraflops: float) -> float:
        """Microseconds."""
        tokens = self.batch * self.context * self.layers
        moved = 2 * tokens * self.kv_heads * self.dim * self.keys.element_size()
        return max(moved / bandwidth / 1e3, 4 * tokens * self.queries * self.heads * self.dim / teraflops / 1e6)


def main(
    cases: Annotated[str, typer.Option(help="batch x context tokens")] = "1x131072,1x51200,8x32768",
    queries: Annotated[str, typer.Option(help="tokens of a wide row")] = "11,25,64",
    evidence: bool = True,
    tiles: Annotated[str, typer.Option(help="query heads of a tile")] = "64,128",
    blocks: str = "64,128",
    stages: str = "3,5",
    warps: str = "4,8",
    waves: str = "1,2",
    shape: Annotated[str, typer.Option(help=", ".join(SHAPES))] = "qwen3-4b",
    teraflops: Annotated[float, typer.Option(help="bf16, of the GPU's matrix products")] = 790,
    best: Annotated[int, typer.Option(help="rows of the table per case")] = 4,
    out: Annotated[Path | None, typer.Option(help="write JSON here")] = None,
) -> None:
    """Try all combinations."""
    ways = list(itertools.product(*map(numbers, (tiles, blocks, stages, warps, waves))))
    sizes = [(*size, count) for size in parse_cases(cases) for count in numbers(queries)]
    table = Table("batch x context", "queries", "tile", "block", "stages", "warps", "waves", "µs", "x floor")
    rows, bandwidth = list[dict[str, Any]](), copy_bandwidth()
    with progress(console) as bar:
        task = bar.add_task("sweep", total=len(sizes) * len(ways))
        for batch, context, count in sizes:
            case = Case(shape, batch, context, count)
            mine = []
            for tile, block, depth, warp, wave in ways:
                setting = WideLaunch(block=block, stages=depth, warps=warp, waves=wave, tile=tile)
                bar.advance(task)
                try:
                    time = case.time(setting, evidence)
                except OutOfResources:
                    continue
                row = {"tile": tile, "block": block, "stages": depth, "warps": warp, "waves": wave, "us": time}
                mine.append({"batch": batch, "context": context, "queries": count, **row})
            floor = case.floor(bandwidth, teraflops)
            for row in sorted(mine, key=lambda row: row["us"])[:best]:
                cells = (row["tile"], row["block"], row["stages"], row["warps"], row["waves"], round(row["us"]))
                table.add_row(f"{batch} x {context}", f"{count}", *map(str, cells), f"{row['us'] / floor:.2f}")
            rows += [{**row, "floor": floor} for row in mine]
            if GPU:
                flash = case.flash()
                times = f"{flash:.0f}", f"{flash / floor:.2f}"
                table.add_row(f"{batch} x {context}", f"{count}", "flash", *[""] * 4, *times)
                rows.append({"batch": batch, "context": context, "queries": count, "us": flash, "floor": floor})
            del case
            if GPU:
                torch.cuda.empty_cache()
    console.print(table)
    if out:
        out.write_text(
            json.dumps({**provenance(), "evidence": evidence, "shape": shape, "rows": rows}, indent=1) + "\n"
        )


if __name__ == "__main__":
    typer.run(main)
