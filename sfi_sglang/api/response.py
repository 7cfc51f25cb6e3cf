"""What a finished SFI request reports: `meta_info["sfi"]`, and in answers of the OpenAI API `sfi` beside `usage`."""

import json
from collections.abc import AsyncIterator, Sequence
from functools import cache
from typing import Any

from pydantic import BaseModel, create_model

Report = dict[str, Any]


def report(req: Any) -> Report | None:
    """The report of a request that has just finished, once."""
    state = getattr(req, "sfi", None)
    if state is None or state.reported or not req.finished():
        return None
    state.reported = True
    summary: Report = state.summary(len(req.output_ids))
    return summary


def beside_usage(reports: Sequence[Report | None]) -> Report | list[Report | None] | None:
    """One choice's report as it is, those of several (`n`, or several prompts) as a list in their order; None for a
    dense request."""
    if not any(reports):
        return None
    return reports[0] if len(reports) == 1 else list(reports)


def add_to_response(response: Any, results: Sequence[dict[str, Any]]) -> Any:
    """An OpenAI response that does not stream, with `sfi`. results: SGLang's, one a choice."""
    found = beside_usage([result["meta_info"].get("sfi") for result in results])
    if found is None or not isinstance(response, BaseModel):
        return response
    return _with_field(type(response)).model_construct(**dict(response), sfi=found)


@cache
def _with_field(model: type[BaseModel]) -> type[BaseModel]:
    return create_model(model.__name__, __base__=model, sfi=(Any, ...))


def timing(meta_info: dict[str, Any]) -> dict[str, float] | None:
    """Seconds that a request waited for its first prefill pass and that passed from there to its first token, as SGLang
    tells with --enable-metrics (srt/observability/req_time_stats.py); None where it does not."""
    try:
        prefill = meta_info["prefill_finished_time"] - meta_info["forward_entry_time"]
        return {"queue": float(meta_info["queue_time"]), "prefill": float(prefill)}
    except (LookupError, TypeError):
        return None


class StreamReports:
    """Reports of one stream of the OpenAI API, by choice, from SGLang's results to the chunk of their usage.
    timed: that chunk gets `timing` too, of the last choice."""

    def __init__(self, timed: bool = False) -> None:
        self._by_choice: dict[int, Report | None] = {}
        self._timed = timed
        self._timing: dict[str, float] | None = None

    async def read(self, results: AsyncIterator[dict[str, Any]]) -> AsyncIterator[dict[str, Any]]:
        """SGLang's results, unchanged. The last one of a choice has its report."""
        async for result in results:
            self._by_choice[result.get("index", 0)] = result["meta_info"].get("sfi")
            if self._timed:
                self._timing = timing(result["meta_info"])
            yield result

    async def add_to(self, chunks: AsyncIterator[str]) -> AsyncIterator[str]:
        """The endpoint's chunks, with `sfi` and `timing` in the one of the usage (`stream_options`)."""
        async for chunk in chunks:
            if '"choices":[],' in chunk and (found := self.beside()):
                body = json.loads(chunk.removeprefix("data: "))
                if body.get("usage"):
                    chunk = f"data: {json.dumps(body | found)}\n\n"
            yield chunk

    def beside(self) -> dict[str, Any]:
        """What stands beside the usage."""
        found = {"sfi": self.found(), "timing": self._timing}
        return {name: value for name, value in found.items() if value}

    def found(self) -> Report | list[Report | None] | None:
        return beside_usage([self._by_choice[choice] for choice in sorted(self._by_choice)])
