"""Decode speed on a GPU in the real runtime: dense beside SFI, interleaved on the same cached prompts.

    python -m benchmarks.decode_gpu MODEL --cases 8x8192,8x32768,1x65536,1x131072 --out result.json

Weights are dummies (`--load-format dummy`), so sentences mean nothing: refreshes come every `period` steps (policy
`periodic`; benchmarks/segments.py measures what real text does). Dense decode is FlashInfer's, and the prefill leaves
attention out (no_prefill/), unless `--attention` names the backend of both; the keys are what dummy weights give.
Models that mix kinds of layers need that; models/ has the shapes of two. Times are read off the token stream at the
client, while all requests of the batch decode and over whole periods: a step's time is the median over the requests.
With `--exact CHANCE` the server serves `exact` requests too, whose drafts pass by lot: dummy weights have no acceptance
of their own. Their time is that of a token.
"""

import asyncio
import itertools
import json
import math
import os
import random
import statistics
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.table import Table

from benchmarks.plots import plot_decode
from sfi_sglang.api.exact import ALGORITHM, CHANCE_ENV
from sfi_sglang.api.options import SFIOptions
from sfi_sglang.api.settings import EXECUTORS
from sfi_sglang.client.provenance import provenance
from sfi_sglang.integration.server_args import EXECUTOR_ENV
from sfi_sglang.terminal import console, progress

PLUGIN = Path(__file__).parent / "no_prefill"
WARM_UP = 8  # tokens
ENGINE = {
    "load_format": "dummy", "skip_tokenizer_init": True, "sampling_backend": "pytorch",
    "disable_prefill_cuda_graph": True, "chunked_prefill_size": 16384, "log_level": "warning",
}  # fmt: skip
REPAIRS = {"on": {"": True}, "off": {"": False}, "both": {"": True, " unrepaired": False}}
OURS = {"radix_cache_backend": "sfi"}
SPLIT = {"prefill_attention_backend": "no_prefill", "decode_attention_backend": "flashinfer"}
Options = dict[str, Any] | None  # of SFI
Stamps = np.ndarray[tuple[int], np.dtype[np.float64]]  # seconds


@dataclass
class Cell:
    """One way to decode one case. Milliseconds; one list of step times per run."""

    batch: int
    context: int
    mode: str
    runs: list[list[float]] = field(default_factory=list)
    reports: list[dict[str, Any]] = field(default_factory=list)

    @property
    def slow_steps(self) -> list[int]:
        """Of each request."""
        return [report.get("slow_steps", 0) for report in self.reports]

    @property
    def accepted(self) -> float | None:
        """Share of the drafts."""
        drafted, accepted = (sum(r.get(f"{name}_tokens", 0) for r in self.reports) for name in ("drafted", "accepted"))
        return round(accepted / drafted, 4) if drafted else None

    @property
    def mean(self) -> float:
        return statistics.median(statistics.mean(run) for run in self.runs)

    def summary(self) -> dict[str, Any]:
        steps = np.concatenate([np.array(run) for run in self.runs])
        p10, p50, p90, p99 = np.percentile(steps, [10, 50, 90, 99])
        means = [statistics.mean(run) for run in self.runs]
        quantiles = {"p10": p10, "p50": p50, "p90": p90, "p99": p99, "min_run": min(means), "max_run": max(means)}
        slow = round(statistics.mean(self.slow_steps), 2) if self.slow_steps else 0
        case = {"batch": self.batch, "context": self.context, "mode": self.mode, "slow_steps_a_request": slow}
        case |= {"accepted": self.accepted} if self.accepted is not None else {}
        return {**case, "ms_per_step": self.mean, **{name: round(float(v), 4) for name, v in quantiles.items()}}


def parse_cases(text: str) -> list[tuple[int, int]]:
    """`8x32768,1x131072` -> [(8, 32768), (1, 131072)]: batch x context tokens."""
    pairs = (case.split("x") for case in text.split(","))
    return [(int(batch), int(context)) for batch, context in pairs]


async def stream(engine: Any, prompt: list[int], sfi: Options, tokens: int) -> AsyncIterator[dict[str, Any]]:
    """One request's meta_info, chunk by chunk; greedy, always `tokens` tokens."""
    params: dict[str, Any] = {"temperature": 0, "ignore_eos": True, "max_new_tokens": tokens}
    if sfi:
        params["custom_params"] = {"sfi": sfi}
    async for chunk in await engine.async_generate(input_ids=prompt, sampling_params=params, stream=True):
        yield chunk["meta_info"]


async def decode(
    engine: Any, prompts: list[list[int]], sfi: Options, tokens: int
) -> tuple[list[Stamps], list[dict[str, Any]]]:
    """When each request's tokens came (seconds), and its report, empty for a dense one."""

    async def one(prompt: list[int]) -> tuple[Stamps, dict[str, Any]]:
        stamps: list[float] = []
        info: dict[str, Any] = {}
        async for info in stream(engine, prompt, sfi, tokens):
            stamps += [time.perf_counter()] * (info["completion_tokens"] - len(stamps))
        return np.array(stamps), info.get("sfi") or {}

    replies = await asyncio.gather(*(one(prompt) for prompt in prompts))
    return [stamps for stamps, _ in replies], [report for _, report in replies]


def token_times(stamps: list[Stamps]) -> list[float]:
    """Milliseconds a token of each request, while all of them decode: tokens that come in groups have no steps."""
    begin, end = max(came[WARM_UP] for came in stamps), min(came[-1] for came in stamps)
    return [(end - begin) * 1e3 / int(((came > begin) & (came <= end)).sum()) for came in stamps]


def step_times(stamps: list[Stamps], period: int) -> list[float]:
    """Milliseconds of the steps that all requests share, as many as make whole periods. Long prompts arrive one after
    the other, and while a later one is taken in, the earlier ones wait.

    stamps: of each request's tokens, seconds.

    Raises:
        ValueError: not one period long.
    """
    begin, end = max(came[WARM_UP] for came in stamps), min(came[-1] for came in stamps)
    shared = [came[(came >= begin) & (came <= end)] for came in stamps]
    count = (min(map(len, shared)) - 1) // period * period
    if not count:
        raise ValueError(f"tokens: the requests share fewer than {period} steps, more are needed")
    steps = np.diff(np.array([came[: count + 1] for came in shared]), axis=1)
    times: list[float] = (np.median(steps, axis=0) * 1e3).tolist()
    return times


def launch(model: str, stock: bool, attention: str | None, arguments: dict[str, Any]) -> Any:
    """The Engine. attention: SGLang's backend of prefill and dense decode."""
    import sglang

    os.environ["PYTHONPATH"] = os.pathsep.join([str(PLUGIN), os.environ.get("PYTHONPATH", "")])
    os.environ["SGLANG_PLUGINS"] = "no_prefill" if stock else "no_prefill,sfi"
    sys.path.insert(0, str(PLUGIN))
    backends = {"attention_backend": attention} if attention else SPLIT
    return sglang.Engine(model_path=model, **ENGINE, **backends, **({} if stock else OURS), **arguments)


def main(
    model: Annotated[str, typer.Argument(help="folder with a config.json")],
    cases: Annotated[str, typer.Option(help="batch x context tokens, comma-separated")] = "8x8192,8x32768,1x65536",
    periods: Annotated[str, typer.Option(help="steps between refreshes")] = "20,40",
    repairs: Annotated[str, typer.Option(help=f"K and V of fast steps: {', '.join(REPAIRS)}")] = "on",
    budget: int = 1536,
    recents: Annotated[str, typer.Option(help="recent tokens that fast steps see")] = str(SFIOptions().recent),
    tokens: Annotated[int, typer.Option(help="decoded tokens per run")] = 168,
    repeats: int = 3,
    exact: Annotated[float | None, typer.Option(help="chance that a draft of an `exact` request passes")] = None,
    stock: Annotated[bool, typer.Option(help="plain SGLang instead: dense only")] = False,
    executor: Annotated[str, typer.Option(help=f"of the sparse steps: {', '.join(EXECUTORS)}")] = "auto",
    attention: Annotated[str | None, typer.Option(help="SGLang's backend of prefill and dense decode, say fa3")] = None,
    engine_arguments: Annotated[str, typer.Option(help="more Engine arguments, JSON")] = "{}",
    out: Annotated[Path | None, typer.Option(help="write JSON here and a plot beside it")] = None,
) -> None:
    """Dense and SFI decode, interleaved."""
    modes: dict[str, Options] = {"dense": None}
    lengths, windows = (list(map(int, values.split(","))) for values in (periods, recents))
    if not stock:
        for length, recent in itertools.product(lengths, windows):
            options = {"budget": budget, "recent": recent, "policy": "periodic", "min_gap": 1, "max_segment": length}
            told = f" recent {recent}" if len(windows) > 1 else ""
            for name, repair in REPAIRS[repairs].items():
                modes[f"sfi/{length}{told}{name}"] = {**options, "repair": repair}
    period = math.lcm(*lengths)  # of all modes together
    os.environ[EXECUTOR_ENV] = executor
    arguments = json.loads(engine_arguments)
    if exact is not None:
        os.environ[CHANCE_ENV] = str(exact)
        arguments["speculative_algorithm"] = ALGORITHM
        for recent in windows:
            told = f", recent {recent}" if len(windows) > 1 else ""
            modes[f"exact, chance {exact}{told}"] = {"budget": budget, "recent": recent, "exact": True}
    engine = launch(model, stock, attention, arguments)
    rng = random.Random(1)
    cells: list[Cell] = []
    loop = asyncio.get_event_loop()
    with progress(console) as bar:
        sizes = parse_cases(cases)
        task = bar.add_task("decode", total=len(sizes) * (repeats * len(modes) + 1))
        for batch, context in sizes:
            prompts = [[rng.randrange(1000, 100000) for _ in range(context)] for _ in range(batch)]
            row = {name: Cell(batch, context, name) for name in modes}
            for sfi in modes.values():  # fill the radix cache, warm the graphs
                loop.run_until_complete(decode(engine, prompts, sfi, WARM_UP + 4))
            bar.advance(task)
            for _ in range(repeats):
                for name, sfi in modes.items():
                    stamps, reports = loop.run_until_complete(decode(engine, prompts, sfi, tokens))
                    groups = bool(sfi and "exact" in sfi)
                    row[name].runs.append(token_times(stamps) if groups else step_times(stamps, period))
                    row[name].reports += reports
                    bar.advance(task)
            cells += row.values()
            dense = row["dense"].mean
            for cell in row.values():
                s = cell.summary()
                print(
                    f"{batch} x {context} {cell.mode}: {s['ms_per_step']:.2f} ms/step, p50 {s['p50']:.2f}, "
                    f"p99 {s['p99']:.2f}, {dense / s['ms_per_step']:.2f} x dense",
                    flush=True,
                )
            engine.flush_cache()
            time.sleep(1)
    engine.shutdown()
    table = Table(
        "batch x context", "mode", "ms/step", "p50", "p90", "p99", "x dense", "slow steps a request", "accepted"
    )
    dense_of = {(c.batch, c.context): c.mean for c in cells if c.mode == "dense"}
    for cell in cells:
        s = cell.summary()
        ratio = dense_of[cell.batch, cell.context] / cell.mean
        numbers = (f"{s[name]:.2f}" for name in ("ms_per_step", "p50", "p90", "p99"))
        share = f"{statistics.mean(cell.slow_steps):.1f} of {tokens - 1}" if cell.mode != "dense" else ""
        table.add_row(
            f"{cell.batch} x {cell.context}", cell.mode, *numbers, f"{ratio:.2f}", share, f"{cell.accepted or ''}"
        )
    console.print(table)
    if out:
        settings = {"model": Path(model).name, "budget": budget, "tokens": tokens, "repeats": repeats, "stock": stock}
        settings |= {
            "executor": executor,
            "repairs": repairs,
            "exact": exact,
            "recents": windows,
            "attention": attention or "flashinfer",
        }
        results = [cell.summary() for cell in cells]
        out.write_text(json.dumps({**provenance(), **settings, "cells": results}, indent=1) + "\n")
        console.print(f"plot: {plot_decode(out)}")


if __name__ == "__main__":
    typer.run(main)
