"""What a finished SFI request reports: `meta_info["sfi"]`, in streams `sfi` beside the usage; Prometheus counters."""

import json
from collections import OrderedDict
from collections.abc import AsyncIterator
from functools import lru_cache
from typing import Any

from sglang.srt.runtime_context import get_observability, get_parallel

from sfi_sglang import METRIC_PREFIX as PREFIX
from sfi_sglang.store import MemoryStore


def build_info(streamer, reqs) -> dict[str, list]:
    """REPLACE SchedulerOutputStreamer.build_additional_customized_info: one list per request, filled when it ends."""
    info = {"sfi": [_report(req) for req in reqs]}
    if any(info["sfi"]) and _counts():
        count_store(getattr(streamer.tree_cache, "store", None))
    return info


def _report(req) -> list[dict]:
    state = getattr(req, "sfi", None)
    if state is None or state.reported or not req.finished():
        return []
    state.reported = True
    summary = state.summary(len(req.output_ids))
    if _counts():
        count(summary)
    return [summary]


def _counts() -> bool:
    """Every tensor-parallel rank serves every request; the first one counts it."""
    return get_observability().enable_metrics and get_parallel().attn_tp_rank == 0


def attach_info(original, manager, meta_info, state, customized_info, index, finish_reason) -> None:
    """AROUND TokenizerManager.update_request_meta_info: SGLang accumulates lists of per-token values; ours is one
    object per request."""
    others = {key: values for key, values in customized_info.items() if key != "sfi"}
    original(manager, meta_info, state, others, index, finish_reason)
    values = customized_info.get("sfi")
    if values and values[index]:
        meta_info["sfi"] = values[index][0]
        if state.obj.stream:
            _streamed[meta_info["id"]] = values[index][0]
            if len(_streamed) > STREAMS_KEPT:
                _streamed.popitem(last=False)


STREAMS_KEPT = 1024  # streams without usage never fetch their report
_streamed: OrderedDict[str, dict] = OrderedDict()  # request id -> report, until its usage chunk goes out


async def stream_report(chunks: AsyncIterator[str], *args, **kwargs) -> AsyncIterator[str]:
    """AFTER the OpenAI endpoints' stream generators: `sfi` beside `usage` in the last chunk (stream_options)."""
    async for chunk in chunks:
        if '"choices":[],' in chunk and _streamed:
            body = json.loads(chunk.removeprefix("data: "))
            if body.get("usage") and (report := _streamed.pop(body["id"], None)):
                chunk = f"data: {json.dumps({**body, 'sfi': report})}\n\n"
        yield chunk


REQUEST_COUNTERS = {
    "requests": "Finished requests served with Slow-Fast Inference",
    "slow_steps": "Decode steps with full attention in SFI requests",
    "fast_steps": "Decode steps with attention to the selected memory only",
    "prompt_tokens": "Prompt tokens of SFI requests",
    "inherited_tokens": "Prompt tokens covered by memory inherited from an earlier request",
}
STORE_COUNTERS = {
    "memory_published": "Selected memories left to later requests",
    "memory_lookups": "Searches for a memory to inherit",
    "memory_hits": "Searches that found one",
    "memory_evictions": "Memories dropped because the store was full",
}
STORE_GAUGES = {
    "memory_bytes": "Size of the store of selected memories",
    "memory_snapshots": "Selected memories in the store",
}


@lru_cache(maxsize=1)
def _metrics() -> dict[str, Any]:
    from prometheus_client import Counter, Gauge  # after SGLang has set PROMETHEUS_MULTIPROC_DIR

    counters = {name: Counter(PREFIX + name, text) for name, text in (REQUEST_COUNTERS | STORE_COUNTERS).items()}
    gauges = {name: Gauge(PREFIX + name, text, multiprocess_mode="mostrecent") for name, text in STORE_GAUGES.items()}
    return counters | gauges


def count(summary: dict) -> None:
    """Add one finished request."""
    metrics = _metrics()
    metrics["requests"].inc()
    for name in REQUEST_COUNTERS.keys() & summary.keys():
        metrics[name].inc(summary[name])


_counted: dict[str, int] = dict.fromkeys(STORE_COUNTERS, 0)


def count_store(store: MemoryStore | None) -> None:
    """Bring the store's counters up to date."""
    if store is None:
        return
    metrics = _metrics()
    for name in STORE_COUNTERS:
        value = getattr(store.stats, name.removeprefix("memory_"))
        metrics[name].inc(value - _counted[name])
        _counted[name] = value
    metrics["memory_bytes"].set(store.nbytes)
    metrics["memory_snapshots"].set(len(store))
