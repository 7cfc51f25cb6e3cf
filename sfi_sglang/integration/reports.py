"""Hooks that bring a finished request's report from the scheduler to the response, into Prometheus metrics and, on
demand, into the log."""

import json
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from typing import Any

from sfi_sglang import TIMING_HEADER
from sfi_sglang import sglang_symbols as symbols
from sfi_sglang.api import response
from sfi_sglang.api.metrics import Metrics
from sfi_sglang.selection.snapshot_store import SnapshotStore

logger = logging.getLogger(__name__)
LOGGED = ("prompt_tokens", "inherited_tokens", "slow_steps", "fast_steps", "coverage", "agreement")


class Reports:
    """logs: write a line for each finished SFI request."""

    def __init__(self, store: SnapshotStore, logs: bool) -> None:
        self.store, self.logs, self.metrics = store, logs, Metrics()

    @staticmethod
    def counts() -> bool:
        """Does this process keep metrics? Every tensor-parallel rank serves every request; the first one counts it."""
        return first_rank() and symbols.resolve(symbols.OBSERVABILITY)().enable_metrics

    def build_reports(
        self, original: Callable[..., dict[str, list[Any]]], streamer: Any, reqs: list[Any]
    ) -> dict[str, list[Any]]:
        """AROUND SchedulerOutputStreamer.build_additional_customized_info: one list per request, filled at its end."""
        found = [response.report(req) for req in reqs]
        summaries = [summary for summary in found if summary]
        if summaries and self.logs and first_rank():
            for req, summary in zip(reqs, found, strict=True):
                if summary:
                    logger.info("sfi request %s", line(req, summary))
        if summaries and self.counts():
            for summary in summaries:
                self.metrics.count(summary)
            store = self.store
            self.metrics.count_store(asdict(store.stats), store.nbytes, len(store))
        return {**original(streamer, reqs), "sfi": [[summary] if summary else [] for summary in found]}

    def attach_report(
        self,
        original: Callable[..., None],
        manager: Any,
        meta_info: dict[str, Any],
        state: Any,
        customized_info: dict[str, list[Any]],
        index: int,
        finish_reason: Any,
    ) -> None:
        """AROUND TokenizerManager.update_request_meta_info: SGLang accumulates lists of per-token values; ours is one
        object per request."""
        others = {key: values for key, values in customized_info.items() if key != "sfi"}
        original(manager, meta_info, state, others, index, finish_reason)
        values = customized_info.get("sfi")
        if values and values[index]:
            meta_info["sfi"] = values[index][0]

    def report_in_response(self, result: Any, serving: Any, request: Any, results: list[Any], created: int) -> Any:
        """AFTER the builders of the OpenAI endpoints' responses."""
        return response.add_to_response(result, results)

    def report_in_stream(
        self,
        chunks: AsyncIterator[str],
        serving: Any,
        adapted_request: Any,
        request: Any,
        raw_request: Any,
        *args: Any,
        **kwargs: Any,
    ) -> AsyncIterator[str]:
        """AFTER the OpenAI endpoints' stream generators, whose first step calls TokenizerManager.generate_request."""
        timed = raw_request is not None and TIMING_HEADER in raw_request.headers
        adapted_request.sfi_reports = reports = response.StreamReports(timed)
        return reports.add_to(chunks)

    def read_reports(self, results: AsyncIterator[Any], manager: Any, obj: Any, *args: Any, **kwargs: Any) -> Any:
        """AFTER TokenizerManager.generate_request."""
        reports = getattr(obj, "sfi_reports", None)
        return reports.read(results) if reports is not None else results


def first_rank() -> bool:
    """Of the tensor-parallel ranks."""
    rank: int = symbols.resolve(symbols.PARALLEL)().attn_tp_rank
    return rank == 0


def line(req: Any, summary: response.Report) -> str:
    """What the log says of a finished request: counts and shares, never a token or a text. JSON, because clients may
    choose the id."""
    counts = {name: summary[name] for name in LOGGED}
    return json.dumps({"rid": req.rid, **counts, "output_tokens": len(req.output_ids)})
