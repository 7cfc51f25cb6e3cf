"""Is our client right? Its figures beside SGLang's own benchmark and the server's counters, on the same requests."""

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

from sfi_sglang.agents.loop import make_client
from sfi_sglang.trajectory.counters import Count, model_folder
from sfi_sglang.trajectory.endpoint import Endpoint
from sfi_sglang.trajectory.formats import save
from sfi_sglang.trajectory.generate import generate
from sfi_sglang.trajectory.presets import preset
from sfi_sglang.trajectory.replay import Replay
from sfi_sglang.trajectory.workload import Workload

OUTPUT_TOKENS = 96
TOLERANCE = 0.03
METRICS = ("ttft_ms", "itl_ms", "e2e_ms")
COUNTERS = {"prompt_tokens": "sglang:prompt_tokens_total", "output_tokens": "sglang:generation_tokens_total"}
HISTOGRAMS = {
    "ttft_ms": "sglang:time_to_first_token_seconds",
    "itl_ms": "sglang:inter_token_latency_seconds",
    "e2e_ms": "sglang:e2e_request_latency_seconds",
}

Figures = dict[str, float]


def compare_clients(endpoint: Endpoint, count: Count, calls: int, repeats: int) -> dict[str, Any]:
    """Medians over repeats of mean TTFT, ITL and request latency in ms, and the tokens of one pass. The clients take
    turns, one request at a time, from an empty cache.

    Raises:
        RuntimeError: SGLang's benchmark failed; the message is its output's tail. A request of ours failed.
    """
    workload = single_calls(calls, count)
    ours: list[Figures] = []
    theirs: list[Figures] = []
    server: list[Figures] = []
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        save(workload, trace, "agentic-trace", count)
        for repeat in range(repeats):
            for client in ("ours", "theirs") if repeat % 2 == 0 else ("theirs", "ours"):
                endpoint.flush_cache()
                if client == "ours":
                    before = endpoint.counters()
                    ours.append(replay_all(endpoint, workload))
                    server.append(gained(before, endpoint, calls))
                else:
                    theirs.append(sglang_benchmark(endpoint, trace, calls, Path(folder) / f"{repeat}.jsonl"))
    result = {"calls": calls, "repeats": repeats, "output_tokens_a_call": OUTPUT_TOKENS}
    columns = {"ours": ours, "sglang.benchmark.serving": theirs, "server": server}
    return result | {
        name: {key: median(row[key] for row in rows) for key in rows[0]} for name, rows in columns.items()
    }  # fmt: skip


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
        "output_tokens": sum(call.output_tokens for call in calls),
    }


def sglang_benchmark(endpoint: Endpoint, trace: Path, calls: int, out: Path) -> Figures:
    """It counts no prompt tokens in this mode (0.5.23).

    Raises:
        RuntimeError: it failed; the message is its output's tail.
    """
    command = [
        sys.executable, "-m", "sglang.benchmark.serving", "--backend", "sglang-oai-chat", "--base-url", endpoint.url,
        "--dataset-name", "agentic-trace", "--dataset-path", str(trace), "--num-prompts", str(calls),
        "--sharegpt-output-len", str(OUTPUT_TOKENS), "--max-concurrency", "1", "--warmup-requests", "0",
        "--model", endpoint.model, "--tokenizer", str(model_folder(endpoint.url)),
        "--output-file", str(out), "--disable-tqdm",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError("sglang.benchmark.serving failed:\n" + (done.stderr or done.stdout)[-2000:])
    found = json.loads(out.read_text().splitlines()[-1])
    return {
        "ttft_ms": found["mean_ttft_ms"],
        "itl_ms": found["mean_itl_ms"],
        "e2e_ms": found["mean_e2e_latency_ms"],
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
    tokens = {key: more[name] for key, name in COUNTERS.items()}
    return tokens | {key: more[f"{name}_sum"] / more[f"{name}_count"] * 1e3 for key, name in HISTOGRAMS.items()}


def show(result: dict[str, Any], console: Console) -> None:
    names = ("ours", "sglang.benchmark.serving", "server")
    title = f"{result['calls']} calls, medians of {result['repeats']}; more than {TOLERANCE:.0%} apart is red"
    table = Table("figure", *names, title=title)
    for key in (*METRICS, *COUNTERS):
        own = result["ours"][key]
        cells = [f"{own:,.2f}"]
        for name in names[1:]:
            other = result[name].get(key)
            far = other is not None and abs(own / other - 1) > TOLERANCE
            text = "" if other is None else f"{other:,.2f} ({own / other - 1:+.1%})"
            cells.append(f"[red]{text}[/]" if far else text)
        table.add_row(key, *cells)
    console.print(table)
