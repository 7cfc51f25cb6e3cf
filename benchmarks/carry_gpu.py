"""Cost of the first selection of a turn on a GPU by carry mode, and of keeping its memory on the device or the host.

    python -m benchmarks.carry_gpu --out benchmarks/results/carry_h200.json

Drives the server's own prefill_observer.py over random keys and queries of Qwen3-4B's shape,
all layers; modes interleaved, medians over repeats. Then times what a store would do with the memory: a copy on the
device, or a copy to pinned host memory and back.
"""

import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.table import Table

from benchmarks.attention_bench import SHAPES
from benchmarks.carry_cost import MODES, inherited_memory
from sfi_sglang.api.options import SFIOptions
from sfi_sglang.attention.prefill_observer import PrefillObserver
from sfi_sglang.attention.workspace import Workspace
from sfi_sglang.client.provenance import provenance
from sfi_sglang.scheduling.request_state import RequestState
from sfi_sglang.scheduling.row_plan import RowPlan, Step
from sfi_sglang.scheduling.segments import SegmentTracker, Vocabulary
from sfi_sglang.selection.limits import MB, Limits
from sfi_sglang.selection.scoring import Scoring
from sfi_sglang.terminal import console, progress


class Turn:
    """The end of one prompt, as the Triton backend sees it."""

    def __init__(self, limits: Limits, budget: int, new: int, device: str) -> None:
        self.limits, self.device, self.new = limits, device, new
        dtype = torch.bfloat16 if device == "cuda" else torch.float32
        req_to_token = torch.randperm(limits.context, device=device).int()[None]
        keys = torch.randn(2, limits.context, limits.kv_heads, limits.dim, device=device, dtype=dtype)
        workspace = Workspace.allocate(limits, device, 1 << 60)
        self.observer = PrefillObserver(workspace, lambda layer: keys[layer % 2], req_to_token)
        self.q = torch.randn(new, limits.heads, limits.dim, device=device, dtype=dtype)
        self.options = {mode: SFIOptions.model_validate({"budget": budget, "carry": mode}) for mode in MODES}
        self.inherited = inherited_memory(limits.context - new, budget, 256, limits.layers, limits.kv_heads, device)

    def first_selection(self, mode: str) -> RequestState:
        options, length = self.options[mode], self.limits.context
        state = RequestState(options, length, SegmentTracker(options, Vocabulary([])))
        state.inherited = None if mode == "fresh" else self.inherited
        self.observer.begin([RowPlan(Step.SLOW, length, state, req_pool_index=0)], [self.new])
        for layer in range(self.limits.layers):
            self.observer.observe(self.q, layer, Scoring(self.limits.dim**-0.5))
        return state


def timed(run: Callable[[], Any], device: str) -> tuple[float, Any]:
    """Milliseconds of `run`, device work included, and its result."""
    if device == "cuda":
        torch.cuda.synchronize()
    began = time.perf_counter()
    result = run()
    if device == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - began) * 1e3, result


def main(
    prefixes: str = "8192,32768,65536,131072",
    new: Annotated[int, typer.Option(help="tokens the turn adds")] = 512,
    budget: int = 2048,
    shape: Annotated[str, typer.Option(help=", ".join(SHAPES))] = "qwen3-4b",
    repeats: int = 7,
    out: Annotated[Path | None, typer.Option(help="write JSON here")] = None,
) -> None:
    """Milliseconds of the first selection of a turn, and of storing its memory."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    rows = []
    with progress(console) as bar:
        sizes = [int(size) for size in prefixes.split(",")]
        task = bar.add_task("carry", total=len(sizes) * (repeats + 1))
        for size in sizes:
            turn = Turn(Limits(*SHAPES[shape], 1, 1, budget, size + new), budget, new, device)
            times: dict[str, list[float]] = {name: [] for name in (*MODES, "copy on device", "to host", "from host")}
            for repeat in range(repeats + 1):  # the first compiles
                found: dict[str, float] = {}
                for mode in MODES:
                    found[mode], state = timed(partial(turn.first_selection, mode), device)
                    assert state.selection is not None
                    snapshot = state.selection.snapshot(state.count, 4, state.recent_start, ()).positions
                    state.release(0)
                host = torch.empty(snapshot.shape, dtype=torch.int32, pin_memory=device == "cuda")
                found["copy on device"], _ = timed(snapshot.clone, device)
                found["to host"], _ = timed(partial(host.copy_, snapshot, non_blocking=True), device)
                found["from host"], _ = timed(partial(host.to, device, non_blocking=True), device)
                if repeat:
                    for name, value in found.items():
                        times[name].append(value)
                bar.advance(task)
            rows.append({"prefix": size, "megabytes": snapshot.nbytes / MB, "milliseconds": times})
    names = list(rows[0]["milliseconds"])
    table = Table("prefix", *names, title=f"ms, medians of {repeats}, {shape}, budget {budget}, {new} new tokens")
    for row in rows:
        table.add_row(f"{row['prefix']}", *(f"{statistics.median(row['milliseconds'][n]):.3f}" for n in names))
    console.print(table)
    if out:
        settings = {"shape": shape, "new": new, "budget": budget, "rows": rows}
        out.write_text(json.dumps({**provenance(), **settings}, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
