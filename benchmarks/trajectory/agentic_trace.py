"""SGLang's `agentic-trace` JSON (sglang.benchmark.datasets.agentic_trace).

A conversation is a list of turns; a turn's `messages` are the new ones without the assistant's. SGLang reads these and
`prompt_tokens`; reply, output_tokens, delay (seconds) and restart are ours, and SGLang's replay ignores them.
"""

import json
from pathlib import Path
from typing import Any

from pydantic import Field

from sfi_sglang.client.conversation import Exported, Messages, Reply
from sfi_sglang.client.file_names import readable, title
from sfi_sglang.client.json_text import Json
from sfi_sglang.client.token_count import Count
from sfi_sglang.trajectory.lengths import call_lengths
from sfi_sglang.trajectory.trace import RecordedCall, Seconds, Synthesis, Tokens, as_turns
from sfi_sglang.trajectory.workload import Trajectory, Workload

OUTPUT_TOKENS = 220  # what SGLang asks for in every turn


class TraceTurn(Exported):
    messages: Messages = Field(default_factory=list)
    reply: Reply | None = None
    output_tokens: Tokens | None = None
    delay: Seconds = 0.0
    restart: bool = False


class Session(Exported):
    id: str | None = None
    start: Seconds | None = None
    tools: list[dict[str, Any]] | None = None


class Metadata(Exported):
    """tools: of all conversations; sessions: ours, one a conversation, with tools where they differ."""

    name: str | None = None
    about: dict[str, Any] | None = None
    tools: list[dict[str, Any]] = Field(default_factory=list)
    sessions: list[Session] = Field(default_factory=list)


class Trace(Exported):
    metadata: Metadata = Field(default_factory=Metadata)


def read(found: Json, synthesis: Synthesis, limit: int | None = None) -> Workload:
    """The workload of a file's value. A turn without messages is left out, as SGLang does.

    Raises:
        ValueError: a wrong field; names file, line and field.
    """
    metadata = found.check(Trace).metadata
    conversations = found.items("conversations")
    if not conversations:
        raise found.error("needs one or more", "conversations")
    trajectories = []
    for index, conversation in enumerate(conversations[:limit]):
        calls = [
            RecordedCall(str(found.path), turn.messages, True, turn.reply, turn.output_tokens, turn.delay, turn.restart)
            for turn in (item.check(TraceTurn) for item in conversation.items())
            if turn.messages
        ]
        for call in calls:
            call.output_tokens = call.output_tokens or (None if call.reply else OUTPUT_TOKENS)
        if not calls:
            raise conversation.error("no turn has messages")
        session = metadata.sessions[index] if index < len(metadata.sessions) else Session()
        tools = metadata.tools if session.tools is None else session.tools
        name = session.id or f"conversation-{index}"
        turns = as_turns(calls, synthesis, name)
        trajectories.append(Trajectory(id=name, turns=turns, tools=tuple(tools), start=session.start))
    about = {"file": readable(found.path.name)} if metadata.about is None else metadata.about
    return Workload(name=metadata.name or title(found.path), trajectories=tuple(trajectories), about=about)


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
