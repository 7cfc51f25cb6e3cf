"""Mooncake traces and AIPerf's `mooncake_trace`, its superset: JSONL, one request a line, times in milliseconds.

A line has one of: `input_length` (alone or with `hash_ids`), `text_input`, `messages`, `payload` (a chat request). The
lines of a session are its calls in order; a line without `session_id` is a trajectory of one call.
https://github.com/kvcache-ai/Mooncake (traces), https://docs.nvidia.com/aiperf (trace replay)
"""

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import AliasChoices, BaseModel, Field, model_validator

from sfi_sglang.trajectory.trace import Messages, RecordedCall, Reply, Synthesis, as_turns, check
from sfi_sglang.trajectory.workload import Trajectory, Workload

BLOCK_TOKENS = 512  # that one hash id stands for
SOURCES = ("input_length", "text_input", "messages", "payload")


class Payload(BaseModel):
    """A chat completions request; its other fields are the sender's business."""

    messages: Messages = Field(min_length=1)
    tools: list[dict[str, Any]] | None = None
    max_tokens: int | None = Field(
        default=None, ge=1, validation_alias=AliasChoices("max_completion_tokens", "max_tokens")
    )


class Line(BaseModel):
    """A request. message_mode, context_mode: whether it has the whole context or what is new in its session, AIPerf's
    names and defaults: messages are whole, lengths and texts are new. reply, restart: ours, others ignore them."""

    timestamp: float | None = Field(default=None, ge=0, validation_alias=AliasChoices("timestamp", "created_time"))
    delay: float = Field(default=0.0, ge=0, validation_alias=AliasChoices("delay", "delay_ms"))
    input_length: int | None = Field(default=None, ge=1, validation_alias=AliasChoices("input_length", "input_tokens"))
    output_length: int | None = Field(
        default=None, ge=1, validation_alias=AliasChoices("output_length", "output_tokens")
    )
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

    @model_validator(mode="before")
    @classmethod
    def no_null(cls, data: Any) -> Any:
        """Exporters write null for what is not set."""
        return {key: value for key, value in data.items() if value is not None} if isinstance(data, dict) else data

    @model_validator(mode="after")
    def one_source(self) -> "Line":
        given = [name for name in SOURCES if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"needs one of {', '.join(SOURCES)}, has {' and '.join(given) or 'none'}")
        if self.hash_ids and self.input_length is None:
            raise ValueError("hash_ids: only with input_length")
        return self


def read(text: str, path: Path, synthesis: Synthesis, limit: int | None = None) -> Workload:
    """The workload of a file's text. A session starts at its first `timestamp`, counted from the file's first; later
    ones are not used, as they include the calls before; `delay` is the wait before a call. `about` says how many
    lines had `extra`, which is not used either.

    Raises:
        ValueError: a wrong line; names file, line and field.
    """
    sessions: dict[str, list[tuple[int, Line]]] = {}
    # Not splitlines: it splits at characters that JSON strings may hold, as U+2028.
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            checked = check(Line, parse(line, f"{path}:{number}"), f"{path}:{number}")
            sessions.setdefault(checked.session_id or f"line-{number}", []).append((number, checked))
    if not sessions:
        raise ValueError(f"{path}: no requests")
    lines = [line for session in sessions.values() for _, line in session]
    first = min((line.timestamp for line in lines if line.timestamp is not None), default=0.0)
    trajectories = tuple(
        trajectory(name, session, path, synthesis, first) for name, session in list(sessions.items())[:limit]
    )
    about = {"file": path.name, "extra_not_used": sum(line.extra is not None for line in lines)}
    return Workload(name=path.stem, trajectories=trajectories, about=about)


def parse(line: str, where: str) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where}: not JSON: {error}") from None


def trajectory(
    name: str, session: list[tuple[int, Line]], path: Path, synthesis: Synthesis, first: float
) -> Trajectory:
    calls, tools = [], None
    for number, line in session:
        where = f"{path}:{number}"
        declared = line.payload.tools if line.payload else line.tools
        if tools is not None and declared is not None and declared != tools:
            raise ValueError(f"{where}: tools: differ from those of the session's earlier lines")
        tools = declared if tools is None else tools
        calls.append(as_call(line, where, synthesis))
    if len({call.delta for call in calls}) > 1:
        raise ValueError(f"{path}:{session[0][0]}: message_mode: session {name} mixes whole contexts and new messages")
    start = session[0][1].timestamp
    return Trajectory(
        id=name,
        turns=as_turns(calls, synthesis, name),
        tools=tuple(tools or ()),
        start=None if start is None else (start - first) / 1000,
    )


def as_call(line: Line, where: str, synthesis: Synthesis) -> RecordedCall:
    tokens = line.output_length
    if line.payload:
        messages, delta = line.payload.messages, False
        tokens = tokens or line.payload.max_tokens
    elif line.messages:
        messages, delta = line.messages, line.message_mode == "delta"
    else:
        content = line.text_input or prompt_text(line, where, synthesis)
        messages, delta = [{"role": "user", "content": content}], line.context_mode != "message_array_with_responses"
    return RecordedCall(where, messages, delta, line.reply, tokens, line.delay / 1000, line.restart)


def prompt_text(line: Line, where: str, synthesis: Synthesis) -> str:
    """`input_length` tokens, the chat template's not among them. Equal hash ids stand for equal blocks of text.

    Raises:
        ValueError: the blocks cannot have this length together.
    """
    length, block = line.input_length or 0, synthesis.block
    if not line.hash_ids:
        number = where.rpartition(":")[2]
        return synthesis.filler.text("prose", length, f"line/{number}", f"Request {number}.")
    full = len(line.hash_ids) - 1
    if not 0 < length - full * block <= block:
        raise ValueError(
            f"{where}: hash_ids: {full + 1} blocks of {block} tokens do not make {length} tokens; is it the block size?"
        )
    sizes = [block] * full + [length - full * block]
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
