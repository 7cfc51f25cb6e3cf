"""Mooncake traces, AIPerf's `mooncake_trace`, their superset, and Bailian's: one request a line.

A line has one of: `input_length` (alone or with `hash_ids`), `text_input`, `messages`, `payload` (a chat request). The
lines of a session are its calls in order; a line without `session_id` is a trajectory of one call. Times are in
milliseconds, but in seconds on lines with Bailian's `chat_id`, each of which is a trajectory that begins at its time.
https://github.com/kvcache-ai/Mooncake (traces), https://docs.nvidia.com/aiperf (trace replay),
https://github.com/alibaba-edu/qwen-bailian-usagetraces-anon
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import AliasChoices, Field, model_validator

from sfi_sglang.client.conversation import Exported, Messages, Reply
from sfi_sglang.client.file_names import readable, title
from sfi_sglang.client.json_text import FieldError, Json
from sfi_sglang.trajectory.trace import (
    MOST_SECONDS,
    Milliseconds,
    RecordedCall,
    Synthesis,
    Tokens,
    as_turns,
)
from sfi_sglang.trajectory.workload import Trajectory, Workload

BLOCKS = (512, 16, 32, 64, 128, 256, 1024, 2048, 4096, 8192)  # tokens of a hash id; Mooncake's and Bailian's first
SOURCES = ("input_length", "text_input", "messages", "payload")


class Payload(Exported):
    """A chat completions request; its other fields are the sender's business."""

    messages: Messages = Field(min_length=1)
    tools: list[dict[str, Any]] | None = None
    max_tokens: Tokens | None = Field(
        default=None, validation_alias=AliasChoices("max_completion_tokens", "max_tokens")
    )


class Line(Exported):
    """A request. message_mode, context_mode: whether it has the whole context or what is new in its session, AIPerf's
    names and defaults: messages are whole, lengths and texts are new. reply, restart: ours, others ignore them."""

    timestamp: float | None = Field(default=None, ge=0, validation_alias=AliasChoices("timestamp", "created_time"))
    chat_id: Any = None
    delay: Milliseconds = Field(default=0.0, validation_alias=AliasChoices("delay", "delay_ms"))
    input_length: Tokens | None = Field(default=None, validation_alias=AliasChoices("input_length", "input_tokens"))
    output_length: Tokens | None = Field(default=None, validation_alias=AliasChoices("output_length", "output_tokens"))
    hash_ids: list[int] | None = None
    text_input: str | None = Field(default=None, min_length=1)
    messages: Messages | None = Field(default=None, min_length=1)
    message_mode: Literal["history", "delta"] = "history"
    context_mode: Literal["message_array_with_responses", "deltas_without_responses"] | None = None
    payload: Payload | None = None
    session_id: str | None = None
    tools: list[dict[str, Any]] | None = None
    extra: dict[str, Any] | None = None
    reply: Reply | None = None
    restart: bool = False

    @model_validator(mode="after")
    def one_source(self) -> "Line":
        given = [name for name in SOURCES if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"needs one of {', '.join(SOURCES)}, has {' and '.join(given) or 'none'}")
        if self.hash_ids and self.input_length is None:
            raise FieldError("only with input_length", "hash_ids")
        return self

    @property
    def seconds(self) -> float | None:
        """The timestamp."""
        return self.timestamp if self.timestamp is None or self.chat_id is not None else self.timestamp / 1000


Request = tuple[Json, Line]


def read(values: Iterable[Json], path: Path, synthesis: Synthesis, limit: int | None = None) -> Workload:
    """The workload of a file's values. A session starts at its first `timestamp`, counted from the file's first; later
    ones are not used, as they include the calls before; `delay` is the wait before a call. `about` says how many
    lines had `extra`, which is not used either, the unit of timestamps, and the tokens of a hash id's block.

    Raises:
        ValueError: a wrong line; names file, line and field.
    """
    sessions: dict[str, list[Request]] = {}
    for number, found in enumerate(values):
        line = found.check(Line)
        alone = f"line-{found.line}" if not found.place else f"item-{number}"
        sessions.setdefault(line.session_id or alone, []).append((found, line))
    if not sessions:
        raise ValueError(f"{path}:1: no requests")
    lines = [request for session in sessions.values() for request in session]
    first = min((line.seconds for _, line in lines if line.seconds is not None), default=0.0)
    block = block_tokens(lines)
    trajectories = tuple(
        trajectory(name, session, synthesis, block, first) for name, session in list(sessions.items())[:limit]
    )
    about: dict[str, Any] = {
        "file": readable(path.name),
        "extra_not_used": sum(line.extra is not None for _, line in lines),
        "timestamps": "in seconds" if any(line.chat_id is not None for _, line in lines) else "in milliseconds",
    }
    if any(line.hash_ids for _, line in lines):
        about["block_tokens"] = block
    return Workload(name=title(path), trajectories=trajectories, about=about)


def block_tokens(lines: Sequence[Request]) -> int:
    """Tokens that a hash id stands for. Traces do not say it: their lengths and numbers of ids agree with one size.

    Raises:
        ValueError: with none; names the line that the likeliest one does not fit.
    """
    hashed = [request for request in lines if request[1].hash_ids]
    misfits = {
        block: next((i for i, (_, line) in enumerate(hashed) if not 0 < last_block(line, block) <= block), len(hashed))
        for block in BLOCKS
    }
    best = max(BLOCKS, key=lambda block: misfits[block])
    if misfits[best] < len(hashed):
        found, line = hashed[misfits[best]]
        made = f"{len(line.hash_ids or ())} blocks of {best} tokens do not make {line.input_length} tokens"
        raise found.error(made, "hash_ids")
    return best


def last_block(line: Line, block: int) -> int:
    """Tokens that are left for the last hash id if all others have `block`."""
    return (line.input_length or 0) - (len(line.hash_ids or ()) - 1) * block


def trajectory(name: str, session: list[Request], synthesis: Synthesis, block: int, first: float) -> Trajectory:
    """first: seconds, the file's first timestamp."""
    calls, tools = [], None
    for found, line in session:
        declared = line.payload.tools if line.payload else line.tools
        if tools is not None and declared is not None and declared != tools:
            raise found.error("differ from those of the session's earlier lines", "tools")
        tools = declared if tools is None else tools
        calls.append(as_call(found, line, synthesis, block))
    begin, line = session[0]
    if len({call.delta for call in calls}) > 1:
        raise begin.error(f"session {name} mixes whole contexts and new messages", "message_mode")
    start = None if line.seconds is None else line.seconds - first
    if start and start > MOST_SECONDS:
        raise begin.error(f"{start:g} s after the file's first", "timestamp")
    return Trajectory(id=name, turns=as_turns(calls, synthesis, name), tools=tuple(tools or ()), start=start)


def as_call(found: Json, line: Line, synthesis: Synthesis, block: int) -> RecordedCall:
    tokens = line.output_length
    if line.payload:
        messages, delta = line.payload.messages, False
        tokens = tokens or line.payload.max_tokens
    elif line.messages:
        messages, delta = line.messages, line.message_mode == "delta"
    else:
        content = line.text_input or prompt_text(found, line, synthesis, block)
        messages, delta = [{"role": "user", "content": content}], line.context_mode != "message_array_with_responses"
    where = f"{found.path}:{found.line}"
    return RecordedCall(where, messages, delta, line.reply, tokens, line.delay / 1000, line.restart)


def prompt_text(found: Json, line: Line, synthesis: Synthesis, block: int) -> str:
    """`input_length` tokens, the chat template's not among them. Equal hash ids stand for equal blocks of text."""
    if not line.hash_ids:
        name = "/".join(map(str, (found.line, *found.place)))
        return synthesis.filler.text("prose", line.input_length or 0, f"line/{name}", f"Request {name}.")
    sizes = [block] * (len(line.hash_ids) - 1) + [last_block(line, block)]
    return "".join(map(synthesis.block_text, line.hash_ids, sizes))


def write(workload: Workload, path: Path) -> None:
    """AIPerf's lines with whole contexts (`message_mode` history), which keep restarts; times to a microsecond."""
    with path.open("w", encoding="utf-8") as file:
        for trajectory in workload.trajectories:
            for number, (turn, messages) in enumerate(trajectory.calls()):
                line: dict[str, Any] = {"session_id": trajectory.id, "messages": messages}
                if trajectory.tools:
                    line["tools"] = trajectory.tools
                line["output_length"] = turn.output_tokens
                if number == 0 and trajectory.start is not None:
                    line["timestamp"] = round(trajectory.start * 1000, 3)
                if turn.delay:
                    line["delay"] = round(turn.delay * 1000, 3)
                if turn.restart:
                    line["restart"] = True
                line["reply"] = turn.reply
                file.write(f"{json.dumps(line, ensure_ascii=False)}\n")
