"""Is our client right? Its figures beside those of SGLang's own benchmark, on the same requests, and both beside what
the server counted in the very same run: that tells a client that measures wrongly from a server that was slower.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean, median
from typing import Any

from rich.console import Console
from rich.table import Table

from sfi_sglang.client.endpoint import Endpoint
from sfi_sglang.client.openai_stream import make_client
from sfi_sglang.client.token_count import Count, model_folder
from sfi_sglang.trajectory.formats import save
from sfi_sglang.trajectory.generate import generate
from sfi_sglang.trajectory.presets import preset
from sfi_sglang.trajectory.replay import Replay
from sfi_sglang.trajectory.workload import Workload

OUTPUT_TOKENS = 96
TOLERANCE = 0.03
METRICS = ("ttft_ms", "itl_ms", "e2e_ms")
COUNTERS = {
    "prompt_tokens": "sglang:prompt_tokens_total",
    "cached_tokens": "sglang:cached_tokens_total",
    "output_tokens": "sglang:generation_tokens_total",
}
HISTOGRAMS = {
    "ttft_ms": "sglang:time_to_first_token_seconds",
    "itl_ms": "sglang:inter_token_latency_seconds",
    "e2e_ms": "sglang:e2e_request_latency_seconds",
}
OURS, THEIRS = "ours", "sglang's"
SERVER = {OURS: "server, ours", THEIRS: "server, sglang's"}  # the counters around a client's runs
PAIRS = ((OURS, SERVER[OURS]), (THEIRS, SERVER[THEIRS]), (OURS, THEIRS), (SERVER[OURS], SERVER[THEIRS]))

Figures = dict[str, float]


def compare_clients(endpoint: Endpoint, count: Count, calls: int, repeats: int) -> dict[str, Any]:
    """The clients take turns, one request at a time, from an empty cache. `runs`: a row a repeat of each client and of
    the server's counters around it, with means of TTFT, ITL and request latency in ms and sums of tokens.

    Raises:
        RuntimeError: SGLang's benchmark failed; the message is its output's tail. A request of ours failed. The server
            has no counters.
    """
    workload = single_calls(calls, count)
    runs: dict[str, list[Figures]] = {name: [] for name in (OURS, SERVER[OURS], THEIRS, SERVER[THEIRS])}
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        save(workload, trace, "agentic-trace", count)
        for repeat in range(repeats):
            for client in (OURS, THEIRS) if repeat % 2 == 0 else (THEIRS, OURS):
                endpoint.flush_cache()
                before = endpoint.counters()
                if client == OURS:
                    figures = replay_all(endpoint, workload)
                else:
                    figures = sglang_benchmark(endpoint, trace, calls, Path(folder) / f"{repeat}.jsonl")
                runs[client].append(figures)
                runs[SERVER[client]].append(gained(before, endpoint, calls))
    medians = {name: {key: median(row[key] for row in rows) for key in rows[0]} for name, rows in runs.items()}
    fixed = {"calls": calls, "repeats": repeats, "output_tokens_a_call": OUTPUT_TOKENS}
    return {**fixed, "medians": medians, "apart": apart(runs), "runs": runs}


def apart(runs: dict[str, list[Figures]]) -> dict[str, Figures]:
    """Of each of PAIRS the median of the quotients less 1: a repeat's runs are neighbours, so slow drift cancels."""
    return {
        f"{one} over {other}": {
            key: median(mine[key] / its[key] for mine, its in zip(runs[one], runs[other], strict=True)) - 1
            for key in METRICS
        }
        for one, other in PAIRS
    }


def single_calls(calls: int, count: Count) -> Workload:
    """Trajectories of one call, the same length for every reply: SGLang's benchmark has one length."""
    made = generate(preset("smoke", trajectories=calls, turns=1), count)
    trajectories = []
    for trajectory in made.trajectories:
        turn = trajectory.turns[0].model_copy(update={"output_tokens": OUTPUT_TOKENS})
        trajectories.append(trajectory.model_copy(update={"turns": (turn,), "tools": ()}))
    return made.model_copy(update={"trajectories": tuple(trajectories)})


def replay_all(endpoint: Endpoint, workload: Workload) -> Figures:
    """
    Raises:
        RuntimeError: a request failed.
    """
    replay = Replay(make_client(endpoint.url, retries=0), endpoint.model)
    began = time.perf_counter()
    calls = [call for each in workload.trajectories for call in replay.run(each, lambda: time.perf_counter() - began)]
    if failed := next((call.error for call in calls if call.error), None):
        raise RuntimeError(f"a request failed: {failed}")
    return {
        "ttft_ms": mean(call.ttft or 0 for call in calls) * 1e3,
        "itl_ms": mean(gap for call in calls for gap in call.itl) * 1e3,
        "e2e_ms": mean(call.seconds for call in calls) * 1e3,
        "prompt_tokens": sum(call.prompt_tokens for call in calls),
        "cached_tokens": sum(call.cached_tokens or 0 for call in calls),
        "output_tokens": sum(call.output_tokens for call in calls),
    }


def sglang_benchmark(endpoint: Endpoint, trace: Path, calls: int, out: Path) -> Figures:
    """
    Raises:
        RuntimeError: it failed; the message is its output's tail.
    """
    command = [
        sys.executable, "-m", "sglang.benchmark.serving", "--backend", "sglang-oai-chat", "--base-url", endpoint.url,
        "--dataset-name", "agentic-trace", "--dataset-path", str(trace), "--num-prompts", str(calls),
        "--sharegpt-output-len", str(OUTPUT_TOKENS), "--max-concurrency", "1", "--warmup-requests", "0",
        "--model", endpoint.model, "--tokenizer", str(model_folder(endpoint.url)),
        "--output-file", str(out), "--output-details", "--disable-tqdm",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError("sglang.benchmark.serving failed:\n" + (done.stderr or done.stdout)[-2000:])
    found = json.loads(out.read_text().splitlines()[-1])
    return {
        "ttft_ms": found["mean_ttft_ms"],
        "itl_ms": found["mean_itl_ms"],
        "e2e_ms": found["mean_e2e_latency_ms"],
        "prompt_tokens": sum(found["input_lens"]),  # total_input_tokens stays 0 in this mode (0.5.23)
        "output_tokens": found["total_output_tokens"],
    }


def gained(before: Figures, endpoint: Endpoint, calls: int) -> Figures:
    """What the server's counters gained since `before`, once the last of `calls` requests is in them.

    Raises:
        RuntimeError: the server has no counters.
    """
    counted = f"{HISTOGRAMS['e2e_ms']}_count"
    for _ in range(50):
        after = endpoint.counters()
        if not after:
            raise RuntimeError(f"server: {endpoint.url} has no /metrics, start it with --enable-metrics")
        if after.get(counted, 0) - before.get(counted, 0) >= calls:
            break
        time.sleep(0.1)
    more = {name: after[name] - before.get(name, 0.0) for name in after}
    tokens = {key: more.get(name, 0.0) for key, name in COUNTERS.items()}
    return tokens | {key: more[f"{name}_sum"] / more[f"{name}_count"] * 1e3 for key, name in HISTOGRAMS.items()}


def show(result: dict[str, Any], console: Console) -> None:
    title = f"{result['calls']} calls, medians of {result['repeats']}"
    table = Table("figure", *result["medians"], title=title)
    for key in (*METRICS, *COUNTERS):
        values = (figures.get(key) for figures in result["medians"].values())
        table.add_row(key, *("" if value is None else f"{value:,.2f}" for value in values))
    console.print(table)
    table = Table("apart", *METRICS, title=f"medians of repeats; more than {TOLERANCE:.0%} is red")
    for pair, figures in result["apart"].items():
        colours = ("red" if abs(figures[key]) > TOLERANCE else "default" for key in METRICS)
        table.add_row(pair, *(f"[{each}]{figures[key]:+.1%}[/]" for each, key in zip(colours, METRICS, strict=True)))
    console.print(table)
