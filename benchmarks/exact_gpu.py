"""Dense, lossy and exact replies to real text on a GPU: the drafts' true acceptance, and the time of a token.

    python -m benchmarks.exact_gpu MODEL --cases 8x16384,8x30000 --out result.json

MODEL has real weights and was trained for such lengths: probe_model/ makes one. Prompts are prose, code and listings in
turn, and every mode answers the same ones from the cache, one after the other. decode_gpu has the speeds of models of
usual sizes; their acceptance is drawn by lot there.
"""

import asyncio
import json
import random
import statistics
from pathlib import Path
from typing import Annotated, Any, get_args

import sglang
import typer
from rich.table import Table
from tokenizers import Tokenizer

from benchmarks.decode_gpu import OURS, WARM_UP, Options, decode, parse_cases, token_times
from sfi_sglang.api.exact import ALGORITHM
from sfi_sglang.client.filler import Filler, Kind
from sfi_sglang.client.provenance import provenance
from sfi_sglang.terminal import console, progress

ENGINE = {
    "sampling_backend": "pytorch", "chunked_prefill_size": 16384, "disable_prefill_cuda_graph": True,
    "log_level": "warning", **OURS,
}  # fmt: skip


def prompts(folder: Path, batch: int, length: int) -> list[list[int]]:
    """Ids of texts of each kind in turn."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))

    def ids(text: str) -> list[int]:
        found: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
        return found

    filler, kinds = Filler(lambda text: len(ids(text))), get_args(Kind)
    return [ids(filler.text(kinds[i % len(kinds)], length, f"exact {i}")) for i in range(batch)]


def main(
    model: Annotated[Path, typer.Argument(help="folder with weights and tokenizer.json")],
    cases: Annotated[str, typer.Option(help="batch x prompt tokens, comma-separated")] = "8x16384,8x30000",
    budget: int = 1536,
    tokens: Annotated[int, typer.Option(help="decoded tokens per run")] = 256,
    repeats: int = 3,
    attention: Annotated[str, typer.Option(help="SGLang's backend of prefill and dense decode")] = "fa3",
    engine_arguments: Annotated[str, typer.Option(help="more Engine arguments, JSON")] = "{}",
    out: Annotated[Path | None, typer.Option(help="write JSON here")] = None,
) -> None:
    """Dense, lossy and exact, interleaved."""
    modes: dict[str, Options] = {"dense": None, "lossy": {"budget": budget}, "exact": {"budget": budget, "exact": True}}
    arguments = {**ENGINE, "attention_backend": attention, **json.loads(engine_arguments)}
    engine = sglang.Engine(model_path=str(model), speculative_algorithm=ALGORITHM, **arguments)
    loop, cells = asyncio.get_event_loop(), list[dict[str, Any]]()
    with progress(console) as bar:
        sizes = parse_cases(cases)
        task = bar.add_task("decode", total=len(sizes) * (repeats * len(modes) + 1))
        for batch, length in sizes:
            asked = prompts(model, batch, length)
            for sfi in modes.values():  # fill the radix cache, warm the graphs
                loop.run_until_complete(decode(engine, asked, sfi, WARM_UP + 4))
            bar.advance(task)
            times: dict[str, list[float]] = {mode: [] for mode in modes}
            reports: dict[str, list[dict[str, Any]]] = {mode: [] for mode in modes}
            for _ in range(repeats):
                for mode in random.sample(list(modes), len(modes)):
                    stamps, found = loop.run_until_complete(decode(engine, asked, modes[mode], tokens))
                    times[mode].append(statistics.mean(token_times(stamps)))
                    reports[mode] += found
                    bar.advance(task)
            cells += [cell(batch, length, mode, times, reports[mode]) for mode in modes]
            engine.flush_cache()
    engine.shutdown()
    table = Table("batch x prompt", "mode", "ms a token", "x dense", "drafts accepted", "dense passes a token")
    for one in cells:
        shares = ("" if one[name] is None else f"{one[name]:.3f}" for name in ("accepted", "dense_passes_a_token"))
        size, ms = f"{one['batch']} x {one['prompt']}", f"{one['ms_a_token']:.2f}"
        table.add_row(size, one["mode"], ms, f"{one['times_dense']:.2f}", *shares)
    console.print(table)
    if out:
        settings = {"model": model.name, "budget": budget, "tokens": tokens, "repeats": repeats, "attention": attention}
        out.write_text(json.dumps({**provenance(), **settings, "cells": cells}, indent=1) + "\n")


def cell(
    batch: int, length: int, mode: str, times: dict[str, list[float]], reports: list[dict[str, Any]]
) -> dict[str, Any]:
    """One row of the table. times: of every mode, milliseconds a token of each run."""
    total = {
        name: sum(report.get(name, 0) for report in reports)
        for name in ("drafted_tokens", "accepted_tokens", "slow_steps", "fast_steps")
    }
    median = statistics.median(times[mode])
    steps = total["slow_steps"] + total["fast_steps"]
    given = steps if mode != "exact" else total["slow_steps"] + total["accepted_tokens"]
    return {
        "batch": batch, "prompt": length, "mode": mode, "ms_a_token": median, "runs": times[mode],
        "times_dense": statistics.median(times["dense"]) / median,
        "accepted": total["accepted_tokens"] / total["drafted_tokens"] if total["drafted_tokens"] else None,
        "dense_passes_a_token": total["slow_steps"] / given if given else None,
    }  # fmt: skip


if __name__ == "__main__":
    typer.run(main)
