"""Launch settings of the attention kernel (kernels/launch.py), tried on this GPU: fast passes, dense ones, and passes
with one slow row.

    python -m benchmarks.sweep_gpu --cases 8x32768,1x131072,6x131072 --out result.json

Random data, all layers in one CUDA graph (attention_bench.py); the best settings of each case, and each setting's time
over the best of its case.
"""

import itertools
import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.table import Table

from benchmarks.attention_bench import GPU, SHAPES, Bench, graph_time
from benchmarks.decode_gpu import parse_cases
from sfi_sglang.api.options import SFIOptions
from sfi_sglang.client.provenance import provenance
from sfi_sglang.kernels.launch import Launch
from sfi_sglang.terminal import console, progress

PASSES = {
    "fast": (0, True, False),
    "dense": (0, False, False),
    "slow": (1, True, True),
}


def numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def main(
    cases: Annotated[str, typer.Option(help="batch x context tokens")] = "8x32768,1x131072,6x131072",
    passes: Annotated[str, typer.Option(help=", ".join(PASSES))] = "fast,slow",
    blocks: str = "32,64",
    stages: str = "2,3,4",
    warps: str = "2,4",
    waves: str = "3,4,5",
    budget: int = 1536,
    shape: Annotated[str, typer.Option(help=", ".join(SHAPES))] = "qwen3-4b",
    best: Annotated[int, typer.Option(help="rows of the table per case")] = 6,
    out: Annotated[Path | None, typer.Option(help="write JSON here")] = None,
) -> None:
    """Try all combinations."""
    settings = [Launch(*values) for values in itertools.product(*map(numbers, (blocks, stages, warps, waves)))]
    table = Table("batch x context", "pass", "block", "stages", "warps", "waves", "µs", "x best")
    rows = []
    with progress(console) as bar:
        sizes, kinds = parse_cases(cases), passes.split(",")
        task = bar.add_task("sweep", total=len(sizes) * len(kinds) * len(settings))
        for batch, context in sizes:
            bench = Bench(shape, batch, context, SFIOptions(budget=budget))
            for kind in kinds:
                slow, fast, logits_out = PASSES[kind]
                bench.fill(slow, batch - slow if fast else 0)
                times = {}
                for launch in settings:
                    times[launch] = graph_time(bench.attend(launch, logits_out))
                    bar.advance(task)
                least = min(times.values())
                for launch, time in sorted(times.items(), key=lambda item: item[1]):
                    rows.append({"batch": batch, "context": context, "pass": kind, **asdict(launch), "us": time})
                    if time <= sorted(times.values())[:best][-1]:
                        cells = (launch.block, launch.stages, launch.warps, launch.waves, round(time))
                        table.add_row(f"{batch} x {context}", kind, *map(str, cells), f"{time / least:.2f}")
            del bench
            if GPU:
                torch.cuda.empty_cache()
    console.print(table)
    if out:
        out.write_text(json.dumps({**provenance(), "budget": budget, "shape": shape, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
