"""Cost of the first selection of a turn, by carry mode, as the prefix grows.

    python -m benchmarks.carry_cost --out benchmarks/results/carry_cost_cpu.json

Times the very functions of the backend (evidence of every layer, then one selection) on random keys and queries of
SmolLM2's shape: 30 layers, 3 KV heads, 9 heads, 16 prompt queries. Modes are interleaved; medians over repeats.
"""

import json
import statistics
import time
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.table import Table

from sfi_sglang.api.options import SFIOptions
from sfi_sglang.client.provenance import provenance
from sfi_sglang.selection import reuse, selector
from sfi_sglang.selection.scoring import Scoring
from sfi_sglang.selection.snapshot_store import Inherited, Snapshot
from sfi_sglang.terminal import console, progress

LAYERS, KV_HEADS, ROWS, DIM = 30, 3, 48, 64
MODES = ("fresh", "inherit", "merge")


def first_selection(
    mode: str, keys: torch.Tensor, queries: torch.Tensor, memory: Inherited, options: SFIOptions
) -> torch.Tensor:
    """keys [KV, L, D] and queries [KV, R, D] stand for every layer; returns positions [layers, KV, k]."""
    sink, recent_start = options.sink, options.recent_start(keys.shape[1])
    candidates = reuse.candidate_positions(memory, sink, recent_start) if mode == "inherit" else None
    evidence = []
    for layer in range(LAYERS):
        if candidates is not None:
            logits = selector.attention_logits(queries, reuse.gather_keys(keys, candidates[layer]), Scoring(DIM**-0.5))
            logits = reuse.mask_logits(logits, candidates[layer])
        else:
            logits = selector.attention_logits(queries, keys, Scoring(DIM**-0.5))[..., sink:recent_start]
        evidence.append(selector.power_mean(logits.log_softmax(-1), options.selector))
    merged = torch.stack(evidence)
    if mode == "merge":
        merged = reuse.add_bonus(merged, memory, sink)
    return selector.select(merged, ROWS, options.selected, options.selector, candidates)


def inherited_memory(
    prefix: int, budget: int, recent: int, layers: int = LAYERS, kv_heads: int = KV_HEADS, device: str = "cpu"
) -> Inherited:
    """A memory of `budget` random positions per layer and KV head, left by the previous turn."""
    covered = prefix - recent
    positions = torch.stack([4 + torch.randperm(covered - 4)[:budget].sort().values for _ in range(kv_heads)])
    snapshot = Snapshot(positions.int().expand(layers, -1, -1).contiguous().to(device), 4, covered, (b"",))
    return Inherited(snapshot, prefix)


def main(
    prefixes: str = "2000,4000,8000,16000,32000,64000",
    new: Annotated[int, typer.Option(help="tokens the turn adds")] = 500,
    budget: int = 512,
    repeats: int = 5,
    out: Annotated[Path | None, typer.Option(help="write JSON here")] = None,
) -> None:
    """Milliseconds of the first selection of a turn."""
    options = SFIOptions(budget=budget)
    sizes = [int(size) for size in prefixes.split(",")]
    times: dict[str, dict[int, list[float]]] = {mode: {size: [] for size in sizes} for mode in MODES}
    torch.manual_seed(0)
    with progress(console) as bar:
        task = bar.add_task("carry cost", total=len(sizes) * (repeats + 1))
        for size in sizes:
            keys = torch.randn(KV_HEADS, size + new, DIM, dtype=torch.bfloat16)
            queries = torch.randn(KV_HEADS, ROWS, DIM, dtype=torch.bfloat16)
            memory = inherited_memory(size, budget, options.recent)
            for repeat in range(repeats + 1):  # the first warms up
                for mode in MODES:
                    began = time.perf_counter()
                    first_selection(mode, keys, queries, memory, options)
                    if repeat:
                        times[mode][size].append((time.perf_counter() - began) * 1e3)
                bar.advance(task)
    title = f"first selection of a turn, ms (median of {repeats}), budget {budget}, {new} new tokens"
    table = Table("prefix", *MODES, title=title)
    for size in sizes:
        table.add_row(f"{size}", *(f"{statistics.median(times[mode][size]):.0f}" for mode in MODES))
    console.print(table)
    if out:
        settings = {"new": new, "budget": budget, "milliseconds": times}
        out.write_text(json.dumps({**provenance(), **settings}, indent=1))


if __name__ == "__main__":
    typer.run(main)
