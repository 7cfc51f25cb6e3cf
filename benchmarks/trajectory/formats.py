"""Workload files: SGLang's agentic-trace, Mooncake, AIPerf and Bailian traces, agents' transcripts."""

from pathlib import Path
from typing import Literal, get_args

from sfi_sglang.client.conversation import is_transcript, transcripts
from sfi_sglang.client.file_names import readable, title
from sfi_sglang.client.filler import Filler
from sfi_sglang.client.json_text import Json, read_json
from sfi_sglang.client.token_count import Count, estimate
from sfi_sglang.trajectory import agentic_trace, mooncake, transcript
from sfi_sglang.trajectory.trace import Synthesis
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


def load(path: Path, count: Count | None = None, *, limit: int | None = None, seed: int = 0) -> Workload:
    """A workload file, or a folder of transcripts. The format is told from the content.

    count: for the lengths of texts that a trace does not hold; none: an estimate. limit: first so many trajectories.
    seed: of the synthesised texts.

    Raises:
        ValueError: no such file, no known format, or a wrong field; names file, line and field.
    """
    count = count or estimate()
    synthesis = Synthesis(count, Filler(count, seed))
    if path.is_dir():
        return _transcripts(transcripts(path, limit), path, synthesis)
    values = read_json(path)
    first = values[0]
    if len(values) == 1:
        if isinstance(first.value, dict) and "conversations" in first.value:
            return agentic_trace.read(first, synthesis, limit)
        if is_transcript(first.value, TRACE_KEYS):  # a trace of one line is one object, too
            return _transcripts(values, path, synthesis)
        if isinstance(first.value, list):
            values = first.items()
    return mooncake.read(values, path, synthesis, limit)


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


def _transcripts(found: list[Json], path: Path, synthesis: Synthesis) -> Workload:
    trajectories = tuple(transcript.read(value, synthesis) for value in found)
    return Workload(name=title(path), trajectories=trajectories, about={"file": readable(path.name)})
