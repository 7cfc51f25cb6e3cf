"""What the trace formats share: bounds of fields, recorded contexts as turns, texts for what was not recorded."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Annotated

from pydantic import Field

from sfi_sglang.client.filler import Filler
from sfi_sglang.client.token_count import Count, reply_tokens
from sfi_sglang.trajectory.workload import Message, Turn

MOST_TOKENS = 10_000_000  # of a prompt or a reply: more than any model takes
MOST_SECONDS = 1e9  # of a wait

Tokens = Annotated[int, Field(ge=1, le=MOST_TOKENS)]
Seconds = Annotated[float, Field(ge=0, le=MOST_SECONDS)]
Milliseconds = Annotated[float, Field(ge=0, le=MOST_SECONDS * 1000)]


@dataclass(frozen=True)
class Synthesis:
    """For what a trace does not hold. count: tokens of a text."""

    count: Count
    filler: Filler
    _blocks: dict[tuple[int, int], str] = field(default_factory=dict)

    def block_text(self, id: int, tokens: int) -> str:
        """The text of a hash id's block, or of its beginning. Made once: traces repeat their blocks."""
        if (id, tokens) not in self._blocks:
            self._blocks[id, tokens] = self.filler.text("prose", tokens, f"block/{id}", f"Block {id}.")
        return self._blocks[id, tokens]

    def reply(self, tokens: int, key: str) -> Message:
        return {"role": "assistant", "content": self.filler.text("prose", tokens, f"reply/{key}")}

    def length(self, message: Message) -> int:
        """Output tokens of a recorded reply."""
        return reply_tokens(message, self.count)


@dataclass
class RecordedCall:
    """One recorded call. where: file and line. messages: its whole prompt, or with `delta` what it adds.
    reply, output_tokens: None if not recorded here; the next call's prompt may hold the reply. delay: seconds."""

    where: str
    messages: list[Message]
    delta: bool
    reply: Message | None
    output_tokens: int | None
    delay: float
    restart: bool = False


def as_turns(calls: Sequence[RecordedCall], synthesis: Synthesis, key: str) -> tuple[Turn, ...]:
    """Turns of one session. A whole prompt that does not go on from the previous call's is a restart.

    Raises:
        ValueError: neither a reply nor its length is known; names file and line.
    """
    found = [_from_prompt(before, call) for before, call in pairwise(calls)]
    added = [calls[0].messages, *(messages for _, messages, _ in found)]
    replies = [*(reply for reply, _, _ in found), None]
    restarts = [calls[0].restart, *(restart for _, _, restart in found)]
    turns = []
    for number, call in enumerate(calls):
        reply, tokens = replies[number] or call.reply, call.output_tokens
        if reply is None:
            if tokens is None:
                raise ValueError(f"{call.where}: output_length: missing, and the reply was not recorded")
            reply = synthesis.reply(tokens, f"{key}/{number}")
        turn = Turn(
            messages=tuple(added[number]),
            reply=reply,
            output_tokens=tokens or synthesis.length(reply),
            delay=call.delay,
            restart=restarts[number],
        )
        turns.append(turn)
    return tuple(turns)


def _from_prompt(before: RecordedCall, call: RecordedCall) -> tuple[Message | None, list[Message], bool]:
    """The reply to `before` if this call's prompt holds it, what `call` adds, and whether it starts anew."""
    if call.delta or call.restart:
        return None, call.messages, call.restart
    length = len(before.messages)
    after = call.messages[length:]
    if call.messages[:length] == before.messages and len(after) > 1 and after[0]["role"] == "assistant":
        return after[0], after[1:], False
    return None, call.messages, True
