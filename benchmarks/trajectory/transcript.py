"""Transcripts of agents, ours and others', as trajectories."""

from itertools import takewhile

from sfi_sglang.client.conversation import transcript
from sfi_sglang.client.file_names import title
from sfi_sglang.client.json_text import Json, Step
from sfi_sglang.trajectory.trace import RecordedCall, Synthesis, as_turns
from sfi_sglang.trajectory.workload import Message, Trajectory


def read(found: Json, synthesis: Synthesis) -> Trajectory:
    """Each assistant message was a call; what follows the last one was never sent. Branches come after the main
    conversation, one by one, as restarts. Lengths are counted; the waits, which a transcript does not hold, are zero.

    Raises:
        ValueError: a wrong field, no assistant message, or one without a message before it; names file, line and field.
    """
    checked = transcript(found)
    calls = _calls(found, checked.messages, 0, "messages")
    for number, branch in enumerate(checked.branches):
        forked = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(checked.messages, branch, strict=False)))
        calls += _calls(found, branch, forked, "branches", number)
    if not calls:
        raise found.error("no assistant message, so no call", "messages")
    name = title(found.path)
    return Trajectory(id=name, turns=as_turns(calls, synthesis, name), tools=tuple(checked.tools))


def _calls(found: Json, messages: list[Message], forked: int, *field: Step) -> list[RecordedCall]:
    """The calls after the first `forked` messages, the first of them with its whole context."""
    calls: list[RecordedCall] = []
    new = messages[:forked]
    for number, message in enumerate(messages[forked:], forked):
        if message["role"] != "assistant":
            new.append(message)
            continue
        if not new:
            raise found.error("an assistant message without another one before it", *field, number)
        restart = bool(forked) and not calls
        calls.append(RecordedCall(str(found.path), new, True, message, None, 0.0, restart))
        new = []
    return calls
