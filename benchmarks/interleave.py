"""What a newcomer's long prompt costs those who decode, by chunk size and by decode passes between chunks.

    python -m benchmarks.interleave --settings 2048:0,2048:1,512:1 --out benchmarks/results/interleave_cpu.json

A server for each setting, `--chunked-prefill-size` and `--prefill-decode-interval` of SGLang. Some requests decode with
SFI on cached prompts when a prompt of new tokens arrives. Until its first token (TTFT) their inter-token latency is
taken at the client, of all streams together; `alone` is that before the newcomer came.
"""

import json
import random
import shlex
import statistics
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import requests
import typer
from rich.table import Table

from sfi_sglang.client.provenance import provenance
from sfi_sglang.serving.server import running_server
from sfi_sglang.terminal import console, progress

WARM_UP = 16  # tokens of each stream before the newcomer
VOCABULARY = 30_000
Stamps = list[float]  # seconds


def stream(url: str, ids: list[int], sfi: Any, tokens: int, stamps: Stamps, enough: Callable[[], bool]) -> None:
    """One greedy request; leaves it when `enough`, which ends it.

    Raises:
        ValueError: the server refused it.
    """
    params = {"temperature": 0, "ignore_eos": True, "max_new_tokens": tokens, "custom_params": {"sfi": sfi}}
    body: dict[str, Any] = {"input_ids": ids, "stream": True, "sampling_params": params}
    with requests.post(f"{url}/generate", json=body, stream=True, timeout=1800) as reply:
        reply.raise_for_status()
        for line in reply.iter_lines():
            if line.startswith(b'data: {"error"'):
                raise ValueError(line.decode())
            if line.startswith(b"data: {"):
                stamps.append(time.perf_counter())
                if enough():
                    return


def latencies(stamps: Stamps, begin: float, end: float) -> list[float]:
    """Milliseconds between tokens, of every gap that reaches into the time from `begin` to `end`."""
    return [(b - a) * 1e3 for a, b in pairwise(stamps) if b > begin and a < end]


def meet(url: str, prompts: list[list[int]], newcomer: list[int], sfi: Any, tokens: int) -> dict[str, Any]:
    """Seconds to the newcomer's first token, and latencies of the streams before and meanwhile."""
    all_stamps: list[Stamps] = [[] for _ in prompts]
    over = threading.Event()
    given = ((url, ids, sfi, tokens, stamps, over.is_set) for ids, stamps in zip(prompts, all_stamps, strict=True))
    threads = [threading.Thread(target=stream, args=arguments, daemon=True) for arguments in given]
    for thread in threads:
        thread.start()
    while min(map(len, all_stamps)) < WARM_UP and all(thread.is_alive() for thread in threads):
        time.sleep(0.01)
    first: Stamps = []
    began = time.perf_counter()
    stream(url, newcomer, sfi, 1, first, lambda: True)
    time.sleep(max(2 * (first[0] - began) / len(newcomer) * 64, 0.5))  # the gap under way ends
    missed = not all(thread.is_alive() for thread in threads)
    over.set()
    for thread in threads:
        thread.join()
    if missed:
        raise typer.BadParameter("a stream ended before the newcomer had its token: --tokens is too small")
    joined = max(stamps[1] for stamps in all_stamps)
    meanwhile = [gap for stamps in all_stamps for gap in latencies(stamps, began, first[0])]
    alone = [gap for stamps in all_stamps for gap in latencies(stamps, joined, began)]
    return {"ttft": first[0] - began, "alone": alone, "meanwhile": meanwhile}


def summary(name: str, runs: list[dict[str, Any]]) -> dict[str, Any]:
    alone, meanwhile = (np.concatenate([run[key] for run in runs]) for key in ("alone", "meanwhile"))
    p50, p99 = np.percentile(meanwhile, [50, 99])
    figures = {"alone_p50": float(np.median(alone)), "p50": p50, "p99": p99, "max": meanwhile.max()}
    ttfts = [run["ttft"] for run in runs]
    rounded = {key: round(float(value), 2) for key, value in figures.items()}
    return {"setting": name, "ttft_s": statistics.median(ttfts), "ttfts_s": ttfts, "itl_ms": rounded}


def main(
    model: Annotated[str | None, typer.Argument(help="folder of a model; the embedded one without it")] = None,
    settings: Annotated[str, typer.Option(help="chunk size : decode passes between chunks")] = "2048:0,2048:1,512:1",
    streams: int = 3,
    context: Annotated[int, typer.Option(help="prompt tokens of each stream")] = 3000,
    newcomer: Annotated[int, typer.Option(help="prompt tokens of the newcomer")] = 6000,
    tokens: Annotated[int, typer.Option(help="that a stream may decode, more than it gets to")] = 2000,
    budget: int = 512,
    repeats: int = 3,
    flags: Annotated[str, typer.Option(help="more flags of the server")] = "",
    out: Annotated[Path | None, typer.Option(help="write JSON here")] = None,
) -> None:
    """Streams that decode while another prompt is taken in."""
    sfi = {"budget": budget, "policy": "periodic", "max_segment": 24}
    draw = random.Random(1)
    prompts = [[draw.randrange(VOCABULARY) for _ in range(context)] for _ in range(streams)]
    cells = []
    Path("runs").mkdir(exist_ok=True)
    with progress(console) as bar:
        pairs = [tuple(map(int, setting.split(":"))) for setting in settings.split(",")]
        task = bar.add_task("prompts", total=len(pairs) * (repeats + 1))
        for chunk, passes in pairs:
            interval = ["--prefill-decode-interval", str(passes), "--prefill-decode-interval-min-bs", "1"]
            given = ["--chunked-prefill-size", str(chunk), *interval, *shlex.split(flags)]
            with running_server(model, given, log=Path(f"runs/interleave_{chunk}_{passes}.log")) as url:
                for ids in prompts:
                    stream(url, ids, sfi, 4, [], lambda: False)
                runs = []
                for _ in range(repeats + 1):
                    fresh = [draw.randrange(VOCABULARY) for _ in range(newcomer)]
                    runs.append(meet(url, prompts, fresh, sfi, tokens))
                    bar.advance(task)
            cells.append(summary(f"{chunk}:{passes}", runs[1:]))  # the first warms up
    table = Table("chunk : decode passes", "TTFT, s", "ITL alone, ms", "meanwhile p50", "p99", "max")
    for cell in cells:
        numbers = (f"{value:.0f}" for value in cell["itl_ms"].values())
        table.add_row(cell["setting"], f"{cell['ttft_s']:.2f}", *numbers)
    console.print(table)
    if out:
        asked = {"streams": streams, "context": context, "newcomer": newcomer, "sfi": sfi, "repeats": repeats}
        out.write_text(
            json.dumps(
                {**provenance(), "model": Path(model).name if model else None, **asked, "cells": cells}, indent=1
            )
            + "\n"
        )


if __name__ == "__main__":
    typer.run(main)
