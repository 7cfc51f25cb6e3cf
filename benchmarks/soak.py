"""Soak: many interleaved conversations with forced KV eviction, random aborts and a small memory store.

    python -m benchmarks.soak --turns 500 --conversations 40

Checks on the way and at the end: the store never exceeds its size, every request is answered or was aborted by us, no
KV slot stays in use. Reports the hit rate and the scheduler's memory; `--dense` runs the same turns without SFI, to
tell SGLang's own growth from ours.
"""

import json
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import psutil
import requests
import typer

from sfi_sglang import METRIC_PREFIX
from sfi_sglang.client.endpoint import Endpoint
from sfi_sglang.client.provenance import provenance
from sfi_sglang.serving.server import running_server
from sfi_sglang.terminal import console, progress

POOL_TOKENS, CONCURRENCY = 8192, 4
FLAGS = ["--max-total-tokens", str(POOL_TOKENS), "--max-running-requests", str(CONCURRENCY)]
CARRY = ("inherit", "merge")
Reply = dict[str, Any]  # of /generate


@dataclass(frozen=True)
class SoakResult:
    turns: int
    answered: int
    aborted: int
    inherited: int  # answered turns that inherited memory
    lookups: int
    hits: int
    evictions: int
    peak_store_bytes: int
    store_capacity: int
    kv_tokens_used_after: float  # of POOL_TOKENS, not evictable
    scheduler_mb_half: float  # resident memory of the scheduler half-way and at the end
    scheduler_mb_end: float


def settled_metrics(url: str) -> dict[str, float]:
    """Metrics once aborted requests have ended; a tiny request makes SGLang refresh its gauges."""
    for _ in range(20):
        params = {"max_new_tokens": 1}
        requests.post(f"{url}/generate", json={"text": "Hi", "sampling_params": params}, timeout=60).raise_for_status()
        time.sleep(0.5)
        last = Endpoint(url, "").counters()
        if last.get("sglang:num_used_tokens") == 0:
            break
    return last


def scheduler_mb(url: str) -> float:
    """Resident memory of the server's scheduler process."""
    port = int(url.rsplit(":", 1)[1])
    parent = next(c.pid for c in psutil.net_connections() if c.status == "LISTEN" and c.laddr.port == port)
    family = psutil.Process(parent).children(recursive=True)
    resident: int = max(process.memory_info().rss for process in family)
    return resident / 2**20


def soak(
    url: str,
    turns: int,
    conversations: int,
    store_mb: int,
    seed: int = 1,
    dense: bool = False,
    done: Callable[[], object] = lambda: None,
) -> SoakResult:
    rng = random.Random(seed)
    histories = [f"Conversation {i}. " + "".join(sentence(rng) for _ in range(12)) for i in range(conversations)]
    locks = [threading.Lock() for _ in range(conversations)]
    schedule = [(rng.randrange(conversations), rng.random() < 0.15, rng.randrange(10**6)) for _ in range(turns)]
    peak, half = [0.0], [0.0]

    def turn(item: tuple[int, tuple[int, bool, int]]) -> Reply | None:
        index, (which, abort, salt) = item
        with locks[which]:
            histories[which] += (
                f"\nTool result {salt}: " + sentence(random.Random(salt)) + sentence(random.Random(salt + 1))
            )
            histories[which] = histories[which][-6000:] if len(histories[which]) > 9000 else histories[which]
            reply = ask(url, histories[which], None if dense else CARRY[which % 2], abort)
            if reply:
                histories[which] += reply["text"]
        if index % 10 == 0:
            peak[0] = max(peak[0], Endpoint(url, "").counters().get(f"{METRIC_PREFIX}memory_bytes", 0))
        if index == turns // 2:
            half[0] = scheduler_mb(url)
        done()
        return reply

    with ThreadPoolExecutor(CONCURRENCY) as pool:
        replies = list(pool.map(turn, enumerate(schedule)))
    answered = [reply for reply in replies if reply]
    inherited = sum(r["meta_info"].get("sfi", {}).get("inherited_tokens", 0) > 0 for r in answered)
    last = settled_metrics(url)
    counts = {k: int(last.get(f"{METRIC_PREFIX}memory_{k}_total", 0)) for k in ("lookups", "hits", "evictions")}
    return SoakResult(
        turns,
        len(answered),
        sum(abort for _, abort, _ in schedule),
        inherited,
        peak_store_bytes=int(max(peak[0], last.get(f"{METRIC_PREFIX}memory_bytes", 0))),
        store_capacity=store_mb << 20,
        kv_tokens_used_after=last.get("sglang:num_used_tokens", -1),
        scheduler_mb_half=half[0],
        scheduler_mb_end=scheduler_mb(url),
        **counts,
    )


def sentence(rng: random.Random) -> str:
    day, ships, hour = rng.randrange(999), rng.randrange(99), rng.randrange(24)
    return f"On day {day} the harbor master wrote that {ships} ships came in at {hour} and left again. "


def ask(url: str, text: str, carry: str | None, abort: bool) -> Reply | None:
    """One turn; `carry` None is dense. An aborted one hangs up after the first token and returns None."""
    sfi = carry and {"budget": 128, "recent": 64, "min_gap": 4, "max_segment": 16, "carry": carry}
    params = {"temperature": 0, "max_new_tokens": 12, "ignore_eos": True, "custom_params": {"sfi": sfi}}
    body: dict[str, Any] = {"text": text, "sampling_params": params, "stream": abort}
    if not abort:
        reply = requests.post(f"{url}/generate", json=body, timeout=300)
        reply.raise_for_status()
        answer: Reply = reply.json()
        return answer
    with requests.post(f"{url}/generate", json=body, stream=True, timeout=300) as stream:
        next(stream.iter_lines(), None)  # then hang up
    return None


def main(
    turns: int = 500,
    conversations: int = 40,
    store_mb: int = 16,
    seed: int = 1,
    dense: Annotated[bool, typer.Option(help="the same turns without SFI")] = False,
    out: Annotated[Path | None, typer.Option(help="write JSON here")] = None,
) -> None:
    """Soak a server of its own and print the result."""
    Path("runs").mkdir(exist_ok=True)
    flags = [*FLAGS, "--sfi-memory-mb", str(store_mb)]
    with running_server(flags=flags, log=Path("runs/soak.log")) as url, progress(console) as bar:
        task = bar.add_task("turns", total=turns)
        result = soak(url, turns, conversations, store_mb, seed, dense, lambda: bar.advance(task))
    console.print_json(data=asdict(result))
    if out:
        out.write_text(json.dumps({**provenance(), **asdict(result)}, indent=1))


if __name__ == "__main__":
    typer.run(main)
