"""What a finished SFI request reports: `meta_info["sfi"]`, and in streams of the OpenAI API `sfi` beside the usage."""

import json
from collections import OrderedDict
from collections.abc import AsyncIterator
from typing import Any

STREAMS_KEPT = 1024  # streams without usage never fetch their report


def report(req: Any) -> dict[str, Any] | None:
    """The report of a request that has just finished, once."""
    state = getattr(req, "sfi", None)
    if state is None or state.reported or not req.finished():
        return None
    state.reported = True
    summary: dict[str, Any] = state.summary(len(req.output_ids))
    return summary


class StreamReports:
    """Reports of streams, by request id, until their usage chunk goes out."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, dict[str, Any]] = OrderedDict()

    def keep(self, request: str, found: dict[str, Any]) -> None:
        self._kept[request] = found
        if len(self._kept) > STREAMS_KEPT:
            self._kept.popitem(last=False)

    async def add_to(self, chunks: AsyncIterator[str]) -> AsyncIterator[str]:
        """The chunks of an OpenAI endpoint, with `sfi` beside `usage` in the last one (stream_options)."""
        async for chunk in chunks:
            if '"choices":[],' in chunk and self._kept:
                body = json.loads(chunk.removeprefix("data: "))
                if body.get("usage") and (found := self._kept.pop(body["id"], None)):
                    chunk = f"data: {json.dumps({**body, 'sfi': found})}\n\n"
            yield chunk
