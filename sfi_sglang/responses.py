"""What a finished SFI request reports: `meta_info["sfi"]` for the client, counters for Prometheus."""

from functools import lru_cache

from sglang.srt.runtime_context import get_observability


def build_info(streamer, reqs) -> dict[str, list]:
    """REPLACE SchedulerOutputStreamer.build_additional_customized_info: one list per request, filled when it ends."""
    return {"sfi": [_report(req) for req in reqs]}


def _report(req) -> list[dict]:
    state = getattr(req, "sfi", None)
    if state is None or state.reported or not req.finished():
        return []
    state.reported = True
    summary = state.summary(len(req.output_ids))
    if get_observability().enable_metrics:
        count(summary)
    return [summary]


def attach_info(original, manager, meta_info, state, customized_info, index, finish_reason) -> None:
    """AROUND TokenizerManager.update_request_meta_info: SGLang accumulates lists of per-token values; ours is one
    object per request."""
    others = {key: values for key, values in customized_info.items() if key != "sfi"}
    original(manager, meta_info, state, others, index, finish_reason)
    values = customized_info.get("sfi")
    if values and values[index]:
        meta_info["sfi"] = values[index][0]


@lru_cache(maxsize=1)
def _counters():
    from prometheus_client import Counter  # after SGLang has set PROMETHEUS_MULTIPROC_DIR

    return {
        name: Counter(f"sglang:sfi_{name}", text)
        for name, text in (
            ("requests", "Finished requests served with Slow-Fast Inference"),
            ("slow_steps", "Decode steps with full attention in SFI requests"),
            ("fast_steps", "Decode steps with attention to the selected memory only"),
            ("prompt_tokens", "Prompt tokens of SFI requests"),
            ("inherited_tokens", "Prompt tokens covered by memory inherited from an earlier request"),
        )
    }


def count(summary: dict) -> None:
    counters = _counters()
    counters["requests"].inc()
    for name in ("slow_steps", "fast_steps", "prompt_tokens", "inherited_tokens"):
        counters[name].inc(summary[name])
