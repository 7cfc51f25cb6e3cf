"""Workload files: SGLang's agentic-trace, Mooncake and AIPerf traces, our agents' transcripts."""

import json
from pathlib import Path
from typing import Any, Literal, get_args

from sfi_sglang.client.filler import Filler
from sfi_sglang.client.token_count import Count, estimate
from sfi_sglang.trajectory import agentic_trace, mooncake, transcript
from sfi_sglang.trajectory.trace import Synthesis, read_text
from sfi_sglang.trajectory.workload import Workload

Format = Literal["agentic-trace", "mooncake"]
TRACE_KEYS = {
    "session_id",
    "message_mode",
    "timestamp",
    "created_time",
    "delay",
    "delay_ms",
    "output_length",
    "output_tokens",
}


def load(
    path: Path,
    count: Count | None = None,
    *,
    limit: int | None = None,
    block_tokens: int = mooncake.BLOCK_TOKENS,
    seed: int = 0,
) -> Workload:
    """A workload file, or a folder of transcripts. The format is told from the content.

    count: for the lengths of texts that a trace does not hold; none: an estimate. limit: first so many trajectories.
    block_tokens: what a Mooncake hash id stands for. seed: of the synthesised texts.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no known format, or a wrong field; names file, line or place, and field.
    """
    count = count or estimate()
    synthesis = Synthesis(count, block_tokens, Filler(count, seed))
    if path.is_dir():
        return _transcripts(sorted(path.glob("*.json")), path, synthesis, limit)
    text = read_text(path)
    data = _whole(text)
    if isinstance(data, dict) and "conversations" in data:
        return agentic_trace.read(data, path, synthesis, limit)
    # A trace of one line is JSON as a whole, too: its keys tell.
    if isinstance(data, dict) and "messages" in data and not data.keys() & TRACE_KEYS:
        return _transcripts([path], path, synthesis, limit)
    return mooncake.read(text, path, synthesis, limit)


def save(workload: Workload, path: Path, format: Format, count: Count | None = None) -> None:
    """Write all of a workload; the name and `about` only in agentic-trace. count: for its `prompt_tokens`.

    Raises:
        ValueError: no such format.
    """
    if format == "agentic-trace":
        agentic_trace.write(workload, path, count or estimate())
    elif format == "mooncake":
        mooncake.write(workload, path)
    else:
        raise ValueError(f"format: {format!r} is none of {', '.join(get_args(Format))}")


def _whole(text: str) -> Any:
    """The file as one JSON value, None if it is not."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return None


def _transcripts(files: list[Path], path: Path, synthesis: Synthesis, limit: int | None) -> Workload:
    trajectories = []
    for file in files[:limit]:
        data = _whole(read_text(file))
        if not isinstance(data, dict):
            raise ValueError(f"{file}: not a JSON object")
        trajectories.append(transcript.read(data, file, synthesis))
    if not trajectories:
        raise ValueError(f"{path}: no transcripts (*.json) in this folder")
    return Workload(name=path.stem, trajectories=tuple(trajectories), about={"file": path.name})
