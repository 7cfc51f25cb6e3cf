"""Prometheus metrics of SFI requests, of the store and of the tokenizer's cache, `sglang:sfi_*`."""

from functools import cached_property
from typing import Any

from sfi_sglang import METRIC_PREFIX

REQUEST_COUNTERS = {
    "requests": "Finished requests served with Slow-Fast Inference",
    "slow_steps": "Decode steps with full attention in SFI requests",
    "fast_steps": "Decode steps with attention to the selected memory only",
    "prompt_tokens": "Prompt tokens of SFI requests",
    "inherited_tokens": "Prompt tokens covered by memory inherited from an earlier request",
    "sparse_extend_tokens": "Prompt tokens that saw a part of their prefix",
    "checked_tokens": "Tokens of fast steps that slow steps computed anew",
    "agreed_tokens": "Checked tokens that full attention ranks first",
    "drafted_tokens": "Tokens that exact requests drafted and full attention verified",
    "accepted_tokens": "Drafted tokens that full attention would have chosen",
    "copied_tokens": "Of these, tokens found in the context, not drafted by fast steps",
}
REQUEST_HISTOGRAMS = {
    "coverage": "Of finished requests: share of the attention at refreshes that the old selection would have caught",
    "agreement": "Of finished requests: share of the checked tokens that full attention ranks first",
    "memory_age_tokens": "Of requests that inherited a memory: prompt tokens that it has not seen",
}
PASS_HISTOGRAMS = {"refresh_seconds": "Decode passes that selected anew for at least one request"}
SHARES = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.925, 0.95, 0.97, 0.98, 0.99, 1.0)
BUCKETS = {
    "coverage": SHARES,
    "agreement": SHARES,
    "memory_age_tokens": tuple(64 * 2**power for power in range(12)),  # a block of the store to 128K
    "refresh_seconds": (0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0),
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
TOKENIZER_COUNTERS = {
    "tokenizer_tokens": "Tokens of chat prompts",
    "tokenizer_reused_tokens": "Tokens of chat prompts whose ids were kept from earlier prompts",
}
TOKENIZER_GAUGES = {"tokenizer_cache_bytes": "Size of the cache of chats' token ids"}


class Metrics:
    """Of one scheduler process. The series exist from the first refresh or finished request on."""

    def __init__(self) -> None:
        self._counted = dict.fromkeys(STORE_COUNTERS, 0)

    @cached_property
    def _series(self) -> dict[str, Any]:
        from prometheus_client import Counter, Gauge, Histogram  # after SGLang has set PROMETHEUS_MULTIPROC_DIR

        counters = {
            name: Counter(METRIC_PREFIX + name, text) for name, text in (REQUEST_COUNTERS | STORE_COUNTERS).items()
        }
        gauges = {
            name: Gauge(METRIC_PREFIX + name, text, multiprocess_mode="mostrecent")
            for name, text in STORE_GAUGES.items()
        }
        histograms = {
            name: Histogram(METRIC_PREFIX + name, text, buckets=BUCKETS[name])
            for name, text in (REQUEST_HISTOGRAMS | PASS_HISTOGRAMS).items()
        }
        return {**counters, **gauges, **histograms}

    def count(self, summary: dict[str, Any]) -> None:
        """Add one finished request."""
        self._series["requests"].inc()
        for name in REQUEST_COUNTERS.keys() & summary.keys():
            self._series[name].inc(summary[name])
        inherited = summary["inherited_tokens"]
        age = summary["prompt_tokens"] - inherited if inherited else None
        for name, value in {**summary, "memory_age_tokens": age}.items():
            if name in REQUEST_HISTOGRAMS and value is not None:
                self._series[name].observe(value)

    def count_refresh(self, seconds: float) -> None:
        """Add one decode pass that selected anew."""
        self._series["refresh_seconds"].observe(seconds)

    def count_store(self, stats: dict[str, int], nbytes: int, snapshots: int) -> None:
        """Bring the store's counters up to date. stats: lookups, hits, evictions and published so far."""
        for name in STORE_COUNTERS:
            value = stats[name.removeprefix("memory_")]
            self._series[name].inc(value - self._counted[name])
            self._counted[name] = value
        self._series["memory_bytes"].set(nbytes)
        self._series["memory_snapshots"].set(snapshots)


class TokenizerMetrics:
    """Of the process that tokenises. The series exist from the first chat on."""

    @cached_property
    def _series(self) -> dict[str, Any]:
        from prometheus_client import Counter, Gauge  # after SGLang has set PROMETHEUS_MULTIPROC_DIR

        counters = {name: Counter(METRIC_PREFIX + name, text) for name, text in TOKENIZER_COUNTERS.items()}
        gauges = {
            name: Gauge(METRIC_PREFIX + name, text, multiprocess_mode="mostrecent")
            for name, text in TOKENIZER_GAUGES.items()
        }
        return {**counters, **gauges}

    def count(self, tokens: int, reused: int, nbytes: int) -> None:
        """Add one prompt."""
        self._series["tokenizer_tokens"].inc(tokens)
        self._series["tokenizer_reused_tokens"].inc(reused)
        self._series["tokenizer_cache_bytes"].set(nbytes)
