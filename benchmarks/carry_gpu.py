"""Cost of the first selection of a turn on a GPU by carry mode, and of keeping its memory on the device or the host.

    python -m benchmarks.carry_gpu --out benchmarks/results/carry_h200.json

Drives the server's own observer of the prefill (sfi_sglang/prompt.py) over random keys and queries of Qwen3-4B's shape,
all layers; modes interleaved, medians over repeats. Then times what a store would do with the memory: a copy on the
device, or a copy to pinned host memory and back.
"""

import json
import statistics
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

import torch
import typer
from rich.table import Table

from benchmarks.carry_cost import MODES, inherited_memory
from sfi_sglang.cli import console
from sfi_sglang.device_memory import MB, DeviceMemory, Shape
from sfi_sglang.evals.report import provenance
from sfi_sglang.options import PROMPT_QUERIES, SFIOptions
from sfi_sglang.plan import Row, Step
from sfi_sglang.prompt import PromptObserver
from sfi_sglang.state import RequestState
from sfi_sglang.terminal import progress
from sfi_sglang.trigger import SegmentTracker, Vocabulary

SHAPES = {"qwen3-4b": (36, 32, 8, 128), "tiny": (2, 4, 2, 64)}  # layers, heads, KV heads, head dim


class Turn:
    """The end of one prompt, as the Triton backend sees it."""

    def __init__(self, shape: Shape, budget: int, new: int, device: str) -> None:
        self.shape, self.device, self.new = shape, device, new
        dtype = torch.bfloat16 if device == "cuda" else torch.float32
        self.memory = DeviceMemory.allocate(shape, device, 1 << 60)
        self.req_to_token = torch.randperm(shape.context, device=device).int()[None]
        self.keys = torch.randn(2, shape.context, shape.kv_heads, shape.dim, device=device, dtype=dtype)
        self.q = torch.randn(PROMPT_QUERIES, shape.heads * shape.dim, device=device, dtype=dtype)
        self.pool = SimpleNamespace(get_key_buffer=lambda layer: self.keys[layer % 2])
        self.options = {mode: SFIOptions.model_validate({"budget": budget, "carry": mode}) for mode in MODES}
        self.inherited = inherited_memory(shape.context - new, budget, 256, shape.layers, shape.kv_heads, device)

    def first_selection(self, mode: str) -> RequestState:
        state = RequestState(self.options[mode], self.shape.context, SegmentTracker(self.options[mode], Vocabulary([])))
        state.inherited = None if mode == "fresh" else self.inherited
        row = Row(Step.SLOW, self.shape.context, state, pool_row=0)
        backend = SimpleNamespace(
            shape=self.shape, memory=self.memory, pool=self.pool, req_to_token=self.req_to_token,
            planner=SimpleNamespace(rows_for=lambda rids, size: [row]),
        )  # fmt: skip
        observer = PromptObserver(backend)
        batch = SimpleNamespace(rids=["a"], batch_size=1, extend_seq_lens_cpu=[self.new])
        q = torch.cat([self.q.new_zeros(self.new - PROMPT_QUERIES, self.q.shape[1]), self.q])
        for layer in range(self.shape.layers):
            shape = {"tp_q_head_num": self.shape.heads, "qk_head_dim": self.shape.dim, "scaling": self.shape.dim**-0.5}
            observer.observe(q, SimpleNamespace(layer_id=layer, **shape), batch)
        return state


def timed(run, device: str) -> tuple[float, Any]:
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
            turn = Turn(Shape(*SHAPES[shape], 1, 1, budget, size + new), budget, new, device)
            times: dict[str, list[float]] = {name: [] for name in (*MODES, "copy on device", "to host", "from host")}
            for repeat in range(repeats + 1):  # the first compiles
                found: dict[str, float] = {}
                for mode in MODES:
                    found[mode], state = timed(partial(turn.first_selection, mode), device)
                    snapshot = state.memory.snapshot()
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
