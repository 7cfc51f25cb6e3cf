"""Soak: mixed traffic on a small pool, and every greedy reply compared with the same request's reply alone.

    python -m benchmarks.soak --minutes 25 --out benchmarks/results/soak_cpu.json
    python -m benchmarks.soak --minutes 8 --dense --out benchmarks/results/soak_cpu_dense.json

Clients ask at the same time for dense, sparse, repaired and exact replies: whole, as streams, with log-probabilities,
with grammars, with n > 1, drawn, in batches and as turns of chats; they abort and hang up, and the cache is flushed in
the midst. Four layers of SmolLM2 in float32: quick, and fast steps are approximate there. SGLang looks at the accounts
of its KV pool after every pass, and at those of its request lines when idle; it ends where they are wrong. `--dense`
is the control: the same traffic without SFI, on a server that has stock attention and the stock cache.
"""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import psutil
import requests
import typer

from benchmarks.soak_cases import GRAMMARS, TIE, Tally, alone
from benchmarks.soak_traffic import Client
from sfi_sglang import METRIC_PREFIX
from sfi_sglang.client.endpoint import Endpoint
from sfi_sglang.client.provenance import provenance
from sfi_sglang.serving.server import CPU_FLAGS, running_server
from sfi_sglang.terminal import console, long_progress

POOL_TOKENS, CLIENTS, STORE_MB = 2048, 8, 2
FLAGS = [
    "--max-total-tokens", str(POOL_TOKENS), "--max-running-requests", "8", "--dtype", "float32", "--context-length",
    "4096", "--chunked-prefill-size", "512", "--schedule-conservativeness", "0.1", "--json-model-override-args",
    '{"num_hidden_layers": 4}',
]  # fmt: skip
SFI_FLAGS = ["--speculative-algorithm", "SFI", "--sfi-memory-mb", str(STORE_MB)]
CHECKS = {"SGLANG_ENABLE_STRICT_MEM_CHECK_DURING_BUSY": "1", "SGLANG_CHECK_KV_PAGE_INVARIANTS": "1"}
FLUSH_EVERY, SAMPLE_EVERY = 3.0, 10.0  # seconds
RETRACTED = "sglang:num_retracted_requests_total"
STORE_COUNTS = ("lookups", "hits", "evictions")


@dataclass(frozen=True)
class SoakResult:
    seconds: float
    replies: dict[str, int]  # by way and option
    equal: dict[str, int]  # to the reply alone, by option
    verdicts: dict[str, int]  # of those that part from it
    parted: list[dict[str, Any]]
    problems: list[str]  # of requests without their one right end
    flushes: dict[int, int]  # by status: 400 while requests run
    retracted: int
    store: dict[str, int]
    peak_store_bytes: int
    kv_tokens_used_after: float
    kv_tokens_free_after_flush: float  # of POOL_TOKENS
    store_bytes_after_flush: float
    scheduler_mb: list[tuple[int, int, float]]  # seconds, replies so far, resident memory

    def failures(self) -> list[str]:
        """What must not be, whatever the machine."""
        wrong = [*self.problems, *(str(one) for one in self.parted if one["verdict"] == "different")]
        if self.kv_tokens_used_after:
            wrong.append(f"{self.kv_tokens_used_after} KV slots stay in use")
        if self.peak_store_bytes > STORE_MB << 20 or self.store_bytes_after_flush:
            wrong.append(f"store: at most {self.peak_store_bytes} bytes, {self.store_bytes_after_flush} after a flush")
        return wrong


def scheduler_mb(url: str) -> float:
    """Resident memory of the server's scheduler process."""
    port = int(url.rsplit(":", 1)[1])
    parent = next(c.pid for c in psutil.net_connections() if c.status == "LISTEN" and c.laddr.port == port)
    family = psutil.Process(parent).children(recursive=True)
    resident: int = max(process.memory_info().rss for process in family)
    return resident / 2**20


def refreshed(url: str, dense: bool) -> dict[str, float]:
    """The counters after a tiny request, which refreshes the gauges; those of the store need one with SFI."""
    params: dict[str, Any] = {"max_new_tokens": 1, **({} if dense else {"custom_params": {"sfi": True}})}
    requests.post(f"{url}/generate", json={"text": "Hi", "sampling_params": params}, timeout=60).raise_for_status()
    time.sleep(0.5)
    return Endpoint(url, "").counters()


def soak(
    url: str,
    seconds: float,
    *,
    dense: bool = False,
    texts: int = 6,
    tokens: int = 64,
    seed: int = 1,
    asked: Callable[[], object] = lambda: None,
    passed: Callable[[float], object] = lambda _: None,
) -> SoakResult:
    """asked: called for each request that was answered alone. passed: with the seconds of the load so far."""
    cases = alone(url, texts, tokens, dense, asked)
    endpoint, tally, over = Endpoint(url, ""), Tally(), threading.Event()
    memory: list[tuple[int, int, float]] = []
    before, peak = endpoint.counters(), 0.0

    def work(client: Client) -> None:
        while not over.is_set():
            client.once()

    clients = [Client(url, cases, tally, seed * 1000 + i, dense) for i in range(CLIENTS)]
    threads = [threading.Thread(target=work, args=(client,), daemon=True) for client in clients]
    began, flush_at, sample_at = time.monotonic(), FLUSH_EVERY, 0.0
    for thread in threads:
        thread.start()
    try:
        while (now := time.monotonic() - began) < seconds:
            passed(now)
            if now >= flush_at:
                status = requests.post(f"{url}/flush_cache", timeout=60).status_code
                tally.flushes[status] += 1
                flush_at = now + FLUSH_EVERY
            if now >= sample_at:
                memory.append((int(now), sum(tally.replies.values()), round(scheduler_mb(url), 1)))
                peak = max(peak, endpoint.counters().get(f"{METRIC_PREFIX}memory_bytes", 0.0))
                sample_at = now + SAMPLE_EVERY
            time.sleep(0.2)
    finally:
        over.set()
        for thread in threads:
            thread.join()
    spent = time.monotonic() - began
    memory.append((int(spent), sum(tally.replies.values()), round(scheduler_mb(url), 1)))
    for _ in range(20):  # until those that hung up have ended
        after = refreshed(url, dense)
        if after.get("sglang:num_used_tokens") == 0:
            break
    endpoint.flush_cache()
    flushed = refreshed(url, dense)
    names = {name: f"{METRIC_PREFIX}memory_{name}_total" for name in STORE_COUNTS}
    return SoakResult(
        seconds=round(spent, 1),
        replies=dict(sorted(tally.replies.items())),
        equal=dict(tally.equal),
        verdicts=dict(Counter(one["verdict"] for one in tally.parted)),
        parted=tally.parted,
        problems=tally.problems,
        flushes=dict(tally.flushes),
        retracted=int(after.get(RETRACTED, 0) - before.get(RETRACTED, 0)),
        store={key: int(after.get(name, 0) - before.get(name, 0)) for key, name in names.items()},
        peak_store_bytes=int(max(peak, after.get(f"{METRIC_PREFIX}memory_bytes", 0))),
        kv_tokens_used_after=after.get("sglang:num_used_tokens", -1),
        kv_tokens_free_after_flush=flushed.get("sglang:kv_available_tokens", -1),
        store_bytes_after_flush=flushed.get(f"{METRIC_PREFIX}memory_bytes", 0),
        scheduler_mb=memory,
    )


def main(
    minutes: Annotated[float, typer.Option(help="of load; the replies alone come before")] = 25,
    dense: Annotated[bool, typer.Option(help="the control: stock attention, no SFI")] = False,
    texts: Annotated[int, typer.Option(help="prompts; each is asked for in every kind")] = 6,
    tokens: Annotated[int, typer.Option(help="of each reply")] = 64,
    seed: int = 1,
    out: Annotated[Path | None, typer.Option(help="write JSON here")] = None,
) -> None:
    """Soak a server of its own and print the result. Exit code 1: something was wrong."""
    Path("runs").mkdir(exist_ok=True)
    flags = [*CPU_FLAGS, *FLAGS] if dense else [*FLAGS, *SFI_FLAGS]
    log = Path(f"runs/soak{'_dense' * dense}.log")
    with (
        running_server(flags=flags, defaults=not dense, log=log, env=CHECKS) as url,
        long_progress(console) as bars,
    ):
        first = bars.add_task("alone", total=texts * len(GRAMMARS) * (1 if dense else 3))
        load = bars.add_task("load", total=minutes * 60)
        result = soak(
            url,
            minutes * 60,
            dense=dense,
            texts=texts,
            tokens=tokens,
            seed=seed,
            asked=lambda: bars.advance(first),
            passed=lambda seconds: bars.update(load, completed=seconds),
        )
    shown = {**asdict(result), "parted": len(result.parted), "scheduler_mb": result.scheduler_mb[-1:]}
    console.print_json(data=shown)
    if out:
        settings = {"flags": flags, "environment": CHECKS, "clients": CLIENTS, "tie": TIE}
        out.write_text(json.dumps({**provenance(), **settings, **asdict(result)}, indent=1) + "\n")
    raise typer.Exit(bool(result.failures()))


if __name__ == "__main__":
    typer.run(main)
