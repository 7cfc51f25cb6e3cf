"""One model call as its client saw it: what agents and benchmarks record."""

from typing import Any

from pydantic import BaseModel, ConfigDict

Message = dict[str, Any]  # of a chat, as the OpenAI API has it
REASONING = ("reasoning_content", "reasoning")  # servers' names for what a model thought before it spoke


class Record(BaseModel):
    model_config = ConfigDict(extra="forbid")


def reasoning_of(message: Message) -> str:
    return next((message[name] for name in REASONING if message.get(name)), "")


class Call(Record):
    """One model call as its client saw it. Times in seconds; `start` and `end` since the cell began.

    arrivals: of the chunks that carried text, since `start`; the first is the TTFT, their differences are the ITLs.
    cached_tokens, sfi: as the server reported them (None: it does not). sfi: slow_steps, fast_steps,
        inherited_tokens, ...
    queue, prefill: seconds that the server says it waited for the first prefill pass, and from there to the first token
        (None: it does not say). The rest of the TTFT is the host's: tokenising, messages, text, HTTP.
    delay: tool time waited before the call, not part of it.
    """

    model_config = ConfigDict(allow_inf_nan=False)

    turn: int
    start: float
    end: float
    arrivals: list[float] = []
    prompt_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int | None = None
    sfi: dict[str, Any] | None = None
    queue: float | None = None
    prefill: float | None = None
    delay: float = 0.0
    error: str | None = None

    @property
    def seconds(self) -> float:
        return self.end - self.start

    @property
    def ttft(self) -> float | None:
        return self.arrivals[0] if self.arrivals else None

    @property
    def host(self) -> float | None:
        """Of the TTFT, what was neither queue nor prefill passes."""
        if self.ttft is None or self.queue is None or self.prefill is None:
            return None
        return self.ttft - self.queue - self.prefill

    @property
    def itl(self) -> list[float]:
        return [later - earlier for earlier, later in zip(self.arrivals, self.arrivals[1:], strict=False)]

    @property
    def decode_seconds(self) -> float:
        """From the first token to the last."""
        return self.arrivals[-1] - self.arrivals[0] if self.arrivals else 0.0
