"""SGLang's `agentic-trace` JSON (sglang.benchmark.datasets.agentic_trace).

A conversation is a list of turns; a turn's `messages` are the new ones without the assistant's. SGLang reads these and
`prompt_tokens`; reply, output_tokens, delay (seconds) and restart are ours, and SGLang's replay ignores them.
"""

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from sfi_sglang.client.token_count import Count
from sfi_sglang.trajectory.lengths import call_lengths
from sfi_sglang.trajectory.trace import Messages, RecordedCall, Reply, Synthesis, as_turns, check
from sfi_sglang.trajectory.workload import Trajectory, Workload

OUTPUT_TOKENS = 220  # what SGLang asks for in every turn


class TraceTurn(BaseModel):
    messages: Messages = []
    reply: Reply | None = None
    output_tokens: int | None = Field(default=None, ge=1)
    delay: float = Field(default=0.0, ge=0)
    restart: bool = False


class Session(BaseModel):
    id: str | None = None
    start: float | None = Field(default=None, ge=0)
    tools: list[dict[str, Any]] | None = None


class Metadata(BaseModel):
    """tools: of all conversations; sessions: ours, one a conversation, with tools where they differ."""

    name: str | None = None
    about: dict[str, Any] | None = None
    tools: list[dict[str, Any]] = []
    sessions: list[Session] = []


def read(data: dict[str, Any], path: Path, synthesis: Synthesis, limit: int | None = None) -> Workload:
    """The workload of a parsed file. A turn without messages is left out, as SGLang does.

    Raises:
        ValueError: a wrong field; names file, place and field.
    """
    metadata = check(Metadata, data.get("metadata") or {}, f"{path}: metadata")
    conversations = data["conversations"]
    if not isinstance(conversations, list) or not conversations:
        raise ValueError(f"{path}: conversations: needs a list of one or more")
    trajectories = []
    for index, conversation in enumerate(conversations[:limit]):
        where = f"{path}: conversations[{index}]"
        if not isinstance(conversation, list):
            raise ValueError(f"{where}: needs a list of turns")
        checked = [check(TraceTurn, turn, f"{where}[{number}]") for number, turn in enumerate(conversation)]
        calls = [
            RecordedCall(where, turn.messages, True, turn.reply, turn.output_tokens, turn.delay, turn.restart)
            for turn in checked
            if turn.messages
        ]
        for call in calls:
            call.output_tokens = call.output_tokens or (None if call.reply else OUTPUT_TOKENS)
        if not calls:
            raise ValueError(f"{where}: no turn has messages")
        session = metadata.sessions[index] if index < len(metadata.sessions) else Session()
        tools = metadata.tools if session.tools is None else session.tools
        name = session.id or f"conversation-{index}"
        turns = as_turns(calls, synthesis, name)
        trajectories.append(Trajectory(id=name, turns=turns, tools=tuple(tools), start=session.start))
    about = {"file": path.name} if metadata.about is None else metadata.about
    return Workload(name=metadata.name or path.stem, trajectories=tuple(trajectories), about=about)


def write(workload: Workload, path: Path, count: Count) -> None:
    """Replies, restarts and waits are kept beside what SGLang reads; `count` gives `prompt_tokens`."""
    shared = workload.trajectories[0].tools
    sessions = []
    conversations = []
    for trajectory in workload.trajectories:
        session = Session(id=trajectory.id, start=trajectory.start)
        if trajectory.tools != shared:
            session.tools = list(trajectory.tools)
        sessions.append(session.model_dump(exclude_none=True))
        lengths = call_lengths(trajectory, count)
        conversations.append(
            [
                {**turn.model_dump(mode="json"), "prompt_tokens": length.prompt}
                for turn, length in zip(trajectory.turns, lengths, strict=True)
            ]
        )
    metadata = {"name": workload.name, "about": workload.about, "tools": shared, "sessions": sessions}
    text = json.dumps({"metadata": metadata, "conversations": conversations}, ensure_ascii=False)
    path.write_text(text, encoding="utf-8")
