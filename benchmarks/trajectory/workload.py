"""What is replayed: trajectories of turns, each a model call that adds messages to a growing context."""

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

Message = dict[str, Any]  # OpenAI chat format


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Turn(Strict):
    """One model call.

    messages: what it adds to the context, after the previous reply: tool results, a user text, first the system prompt.
    reply: the assistant message that the next turn's context holds: recorded, or a filler of `output_tokens`.
    output_tokens: length of the reply, forced in fixed-history mode.
    delay: seconds of tool work before the call, after the previous reply.
    restart: the context starts anew with `messages` (a compacted history, a sub-agent).
    """

    messages: tuple[Message, ...] = Field(min_length=1)
    reply: Message
    output_tokens: int = Field(ge=1)
    delay: float = Field(default=0.0, ge=0)
    restart: bool = False


class Trajectory(Strict):
    """One session of an agent. start: seconds after the beginning of the trace; None: whenever a client is free."""

    id: str
    turns: tuple[Turn, ...] = Field(min_length=1)
    tools: tuple[dict[str, Any], ...] = ()
    start: float | None = Field(default=None, ge=0)

    def calls(self) -> Iterator[tuple[Turn, list[Message]]]:
        """Every turn with the whole context that it sends."""
        history: list[Message] = []
        for turn in self.turns:
            history = [] if turn.restart else history
            history = [*history, *turn.messages]
            yield turn, history
            history = [*history, turn.reply]

    @property
    def tool_seconds(self) -> float:
        return sum(turn.delay for turn in self.turns)


class Workload(Strict):
    """Trajectories with a name. about: where they come from (preset, seed, file), for the report."""

    name: str
    trajectories: tuple[Trajectory, ...] = Field(min_length=1)
    about: dict[str, Any] = {}
