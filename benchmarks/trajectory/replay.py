"""Fixed history: a trajectory's calls with their recorded contexts, replies forced to the recorded length."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import openai

from sfi_sglang.client.call import Call
from sfi_sglang.client.openai_stream import chat
from sfi_sglang.trajectory.workload import Message, Trajectory, Turn


@dataclass
class Replay:
    """Sends trajectories. sfi: the request option, None for a dense request. tool_scale: factor on the tool waits."""

    client: openai.OpenAI
    model: str
    sfi: bool | dict[str, Any] | None = None
    tool_scale: float = 1.0
    done: Callable[[], None] = field(default=lambda: None)  # after every call

    def run(self, trajectory: Trajectory, clock: Callable[[], float]) -> list[Call]:
        """All calls, up to the first that fails. clock: seconds since the cell began."""
        calls: list[Call] = []
        for number, (turn, messages) in enumerate(trajectory.calls()):
            delay = turn.delay * self.tool_scale if number else 0.0
            time.sleep(delay)
            call = self._call(number, turn, messages, trajectory.tools, clock)
            call.delay = delay
            calls.append(call)
            self.done()
            if call.error:
                break
        return calls

    def warm(self, trajectory: Trajectory) -> None:
        """Leave the first prompt in the server's prefix cache.

        Raises:
            openai.OpenAIError: the server did not answer.
        """
        _, messages = next(trajectory.calls())
        self.client.chat.completions.create(**self._request(messages, trajectory.tools), max_tokens=1)

    def _request(self, messages: list[Message], tools: tuple[dict[str, Any], ...]) -> dict[str, Any]:
        request: dict[str, Any] = {"model": self.model, "messages": messages, "temperature": 0}
        return request | ({"tools": list(tools), "tool_choice": "none"} if tools else {})

    def _call(
        self,
        number: int,
        turn: Turn,
        messages: list[Message],
        tools: tuple[dict[str, Any], ...],
        clock: Callable[[], float],
    ) -> Call:
        tokens = turn.output_tokens
        forced: dict[str, Any] = {"ignore_eos": True}  # SGLang's and vLLM's; min_tokens would cost time in every step
        extra = forced if self.sfi is None else {**forced, "sfi": self.sfi}
        call = Call(turn=number, start=clock(), end=0.0)
        try:
            request = self._request(messages, tools)
            reply = chat(self.client, **request, max_tokens=tokens, extra_body=extra)
        except openai.OpenAIError as error:
            call.end, call.error = clock(), f"{type(error).__name__}: {error}"
            return call
        call.end, call.arrivals, call.sfi = call.start + reply.ended, reply.arrivals, reply.sfi
        call.prompt_tokens, call.output_tokens = reply.prompt_tokens, reply.completion_tokens
        call.cached_tokens = reply.cached_tokens
        call.queue, call.prefill = reply.timing.get("queue"), reply.timing.get("prefill")
        if reply.completion_tokens != tokens:
            call.error = f"the reply has {reply.completion_tokens} tokens instead of {tokens}"
        elif self.sfi and reply.sfi is None:
            call.error = "the reply has no SFI report: is the server's plugin loaded?"
        return call
