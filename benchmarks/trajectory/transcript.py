"""Transcripts of our agents: a JSON object with `messages` in OpenAI chat format, maybe `tools` and `branches`."""

from itertools import takewhile
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from sfi_sglang.trajectory.trace import Messages, RecordedCall, Synthesis, as_turns, check
from sfi_sglang.trajectory.workload import Message, Trajectory


class Transcript(BaseModel):
    """branches: conversations that went on from a copy of the first messages."""

    messages: Messages
    branches: list[Messages] = []
    tools: list[dict[str, Any]] = []


def read(data: dict[str, Any], path: Path, synthesis: Synthesis) -> Trajectory:
    """Each assistant message was a call; what follows the last one was never sent. Branches come after the main
    conversation, one by one, as restarts. Lengths are counted; the waits, which a transcript does not hold, are zero.

    Raises:
        ValueError: a wrong field, no assistant message, or one without a message before it.
    """
    transcript = check(Transcript, data, str(path))
    calls = _calls(transcript.messages, 0, f"{path}: messages")
    for number, branch in enumerate(transcript.branches):
        forked = sum(
            1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(transcript.messages, branch, strict=False))
        )
        calls += _calls(branch, forked, f"{path}: branches.{number}")
    if not calls:
        raise ValueError(f"{path}: messages: no assistant message, so no call")
    return Trajectory(id=path.stem, turns=as_turns(calls, synthesis, path.stem), tools=tuple(transcript.tools))


def _calls(messages: list[Message], forked: int, where: str) -> list[RecordedCall]:
    """The calls after the first `forked` messages, the first of them with its whole context."""
    calls: list[RecordedCall] = []
    new = messages[:forked]
    for number, message in enumerate(messages[forked:], forked):
        if message["role"] != "assistant":
            new.append(message)
            continue
        if not new:
            raise ValueError(f"{where}.{number}: an assistant message without another one before it")
        calls.append(
            RecordedCall(f"{where}.{number}", new, True, message, None, 0.0, restart=bool(forked) and not calls)
        )
        new = []
    return calls
