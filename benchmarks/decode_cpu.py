"""Decode speed on the CPU: stock torch_native, our dense, and SFI, one long prompt, interleaved in one run.

    python -m benchmarks.decode_cpu --context 7000 --budget 512 --out benchmarks/results/decode_cpu.json

Two real servers run: stock SGLang (torch_native) and ours; only one works at a time. The inter-token latency is read
off the stream at the client; the first tokens after the prompt are left out.
"""

import json
import statistics
import time
from pathlib import Path
from typing import Annotated, Any

import requests
import typer
from rich.table import Table

from sfi_sglang.client.provenance import provenance
from sfi_sglang.client.token_count import of_served_model
from sfi_sglang.evals.retrieval import Retrieval
from sfi_sglang.serving.server import running_server
from sfi_sglang.terminal import console, progress

STOCK_FLAGS = [
    "--attention-backend",
    "torch_native",
    "--device",
    "cpu",
    "--max-total-tokens",
    "16384",
    "--sleep-on-idle",
]
WARM_UP = 2  # tokens


def inter_token_latencies(url: str, prompt: str, sfi: dict[str, Any] | None, tokens: int) -> list[float]:
    """Milliseconds between streamed tokens of one greedy request."""
    params: dict[str, Any] = {"temperature": 0, "ignore_eos": True, "max_new_tokens": tokens}
    if sfi is not None:
        params["custom_params"] = {"sfi": sfi}
    stamps = []
    body: dict[str, Any] = {"text": prompt, "stream": True, "sampling_params": params}
    with requests.post(f"{url}/generate", json=body, stream=True, timeout=600) as reply:
        reply.raise_for_status()
        for line in reply.iter_lines():
            if line.startswith(b"data: {"):
                stamps.append(time.perf_counter())
    return [(b - a) * 1e3 for a, b in zip(stamps[WARM_UP:], stamps[WARM_UP + 1 :], strict=False)]


def main(
    context: Annotated[int, typer.Option(help="prompt tokens")] = 7000,
    budget: int = 512,
    tokens: Annotated[int, typer.Option(help="decoded tokens per run")] = 96,
    repeats: int = 5,
    out: Annotated[Path | None, typer.Option(help="write JSON here")] = None,
) -> None:
    """Stock torch_native, our dense and SFI decode, interleaved."""
    Path("runs").mkdir(exist_ok=True)
    logs = [Path("runs/stock.log"), Path("runs/sfi.log")]
    with running_server(flags=STOCK_FLAGS, defaults=False, log=logs[0]) as stock, running_server(log=logs[1]) as ours:
        prompt = Retrieval().item("single", context, 0.5, 1, of_served_model(ours)).prompt
        cells = {"stock": (stock, None), "dense": (ours, None), "sfi": (ours, {"budget": budget})}
        means: dict[str, list[float]] = {name: [] for name in cells}
        steps: dict[str, list[float]] = {name: [] for name in cells}
        with progress(console) as bar:
            task = bar.add_task("decode", total=(repeats + 1) * len(cells))
            for repeat in range(repeats + 1):  # the first warms the prefix cache and the kernels
                for name, (url, sfi) in cells.items():
                    latencies = inter_token_latencies(url, prompt, sfi, tokens if repeat else 8)
                    if repeat:
                        means[name].append(statistics.mean(latencies))
                        steps[name] += latencies
                    bar.advance(task)
    table = Table("decode", "ms/token, median of runs", "min-max of runs", "ITL p50", "ITL p99", "x stock", "x dense")
    medians = {name: statistics.median(values) for name, values in means.items()}
    for name, values in means.items():
        cuts = statistics.quantiles(steps[name], n=100)
        table.add_row(
            name,
            f"{medians[name]:.1f}",
            f"{min(values):.1f}-{max(values):.1f}",
            f"{cuts[49]:.1f}",
            f"{cuts[98]:.1f}",
            f"{medians['stock'] / medians[name]:.2f}",
            f"{medians['dense'] / medians[name]:.2f}",
        )
    console.print(table)
    if out:
        settings = {"context": context, "budget": budget, "tokens": tokens, "repeats": repeats}
        out.write_text(json.dumps({**provenance(), **settings, "ms_per_token": means, "medians": medians}, indent=1))


if __name__ == "__main__":
    typer.run(main)
