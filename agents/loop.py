"""The agent loop: one forced tool call a turn, its result fed back, until the final tool or the step limit."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

import openai

from sfi_sglang.agents.tools import ANSWER, Tool, ToolError
from sfi_sglang.client.call import Call, Message
from sfi_sglang.client.json_text import parse
from sfi_sglang.client.openai_stream import RETRIES, BrokenStream, Reply, chat

MAX_TOKENS = 192
NOTHING: Mapping[str, bool] = MappingProxyType({})
CALL_START, CALL_END = "<tool_call>", "</tool_call>"  # some servers' grammars admit prose around: stop at the end mark
NO_CALL = "Error: this was no complete tool call."
REPEATS = 3  # of one call: greedy decoding does not leave such a circle
NUDGE = "You made this same call before. Make a different one."


@dataclass(frozen=True)
class Step:
    """A planned step: the tool to call, and what to tell the model about it, if anything."""

    tool: str
    instruction: str


@dataclass
class Turn:
    """One request: the tools it offered, its call (tool None: the model made none) and its cost. arguments: also of a
    call without an end; where no tool was offered, the text. failed: no call, or one that its tool refused. cut: it ran
    to the most tokens that it may have."""

    offered: list[str]
    tool: str | None
    arguments: str
    failed: bool
    call: Call
    cut: bool = False


@dataclass
class AgentResult:
    """finish_reason: `step_limit` also after a circle of the same call. error: what ended the run. turns: in the order
    of their starts, those of parallel branches too."""

    answer: str | None = None
    finish_reason: Literal["answered", "step_limit", "error"] = "step_limit"
    error: str | None = None
    turns: list[Turn] = field(default_factory=list)

    @property
    def calls(self) -> list[Call]:
        return [turn.call for turn in self.turns]

    @property
    def seconds(self) -> float:
        """From the beginning to the last reply, tools included."""
        return max((call.end for call in self.calls), default=0.0)


@dataclass
class Session:
    """A conversation in which the model calls one tool a turn, over the OpenAI API; another way to talk overrides
    `say`, `ask` and `tell`. began: time.perf_counter() at the run's beginning, from which calls count. branches:
    sessions that went on from a copy of these messages."""

    client: openai.OpenAI
    model: str
    tools: Sequence[Tool]
    messages: list[Message]
    sfi: bool | dict[str, Any] | None = None
    began: float = field(default_factory=time.perf_counter)
    turns: list[Turn] = field(default_factory=list)
    branches: list["Session"] = field(default_factory=list)

    def fork(self, tools: Sequence[Tool]) -> "Session":
        """A branch: it goes on from the messages so far."""
        branch = Session(self.client, self.model, tools, [*self.messages], self.sfi, self.began)
        self.branches.append(branch)
        return branch

    def work(self, plan: Sequence[Step], max_steps: int, final: str = ANSWER.name) -> str | None:
        """Let the model call tools until `final` succeeds: its output. None: the steps were used up, or REPEATS
        calls in a row were the same.

        plan: the first steps, for models too small to choose. A failed step is tried again; after the plan, or
        without one, the model may call any tool.

        Raises:
            openai.OpenAIError: no answer, or a refused request, after the retries.
        """
        by_name = {tool.name: tool for tool in self.tools}
        remaining = list(plan)
        made: list[tuple[str | None, str]] = []
        delay = 0.0
        for _ in range(max_steps):
            offered = [by_name[remaining[0].tool]] if remaining else self.tools
            if remaining and remaining[0].instruction:
                self.say(f"Now call {remaining[0].tool}. {remaining[0].instruction}")
            turn = self.ask(offered, delay)
            began = time.perf_counter()
            output = execute(by_name, turn) if turn.tool else NO_CALL
            delay = time.perf_counter() - began if turn.tool else 0.0
            call = (turn.tool, turn.arguments)
            self.tell(turn, f"{NUDGE}\n{output}" if turn.tool and call in made else output)
            made.append(call)
            if not turn.failed:
                remaining = remaining[1:]
                if turn.tool == final:
                    return output
            if turn.tool and made[-REPEATS:] == [call] * REPEATS:
                break
        return None

    def say(self, text: str) -> None:
        """A message of the user."""
        self.messages.append({"role": "user", "content": text})

    def tell(self, turn: Turn, output: str) -> None:
        """What came of the last call; of none, the user says it."""
        if turn.tool is None:
            self.say(output)
        else:
            made = self.messages[-1]["tool_calls"][0]
            self.messages.append({"role": "tool", "tool_call_id": made["id"], "content": output})

    def ask(self, tools: Sequence[Tool], delay: float) -> Turn:
        """One request for one call of one of `tools`. delay: seconds that the tool before it took."""
        turn, reply = self._send(
            tools,
            delay,
            messages=self.messages,
            tools=[tool.definition() for tool in tools],
            tool_choice="required",
            parallel_tool_calls=False,
            max_tokens=MAX_TOKENS,
            stop=CALL_END,
        )
        self.messages.append(_message(turn, reply))
        return turn

    def complete(self, begins: str, max_tokens: int) -> str:
        """The model's message that begins so, and goes on for at most `max_tokens`. A turn without tools."""
        continued = {"continue_final_message": True, "add_generation_prompt": False}
        opened = [*self.messages, {"role": "assistant", "content": begins}]
        turn, reply = self._send((), 0.0, messages=opened, max_tokens=max_tokens, extra_body=continued)
        turn.failed, turn.arguments = False, f"{begins}{reply.message['content']}"
        self.messages.append({"role": "assistant", "content": turn.arguments})
        return turn.arguments

    def _send(
        self,
        offered: Sequence[Tool],
        delay: float,
        extra_body: Mapping[str, Any] = MappingProxyType({}),
        **request: Any,
    ) -> tuple[Turn, Reply]:
        """A turn and its reply. The client retries what had no answer; a broken stream we do."""
        body = {**extra_body, **({} if self.sfi is None else {"sfi": self.sfi})}
        for attempt in range(RETRIES + 1):
            turn = self.begin(offered, delay if attempt == 0 else 0.0)
            try:
                reply = chat(self.client, model=self.model, temperature=0, extra_body=body, **request)
            except openai.OpenAIError as error:
                turn.call.end = time.perf_counter() - self.began
                turn.call.error = f"{type(error).__name__}: {error}"
                if not isinstance(error, BrokenStream) or attempt == RETRIES:
                    raise
                continue
            _account(turn, reply, self.began)
            return turn, reply
        raise AssertionError("the last attempt returns or raises")

    def begin(self, tools: Sequence[Tool], delay: float) -> Turn:
        """A new turn, failed so far."""
        start = time.perf_counter() - self.began
        cost = Call(turn=0, start=start, end=start, delay=delay)  # numbered when the run has ended
        turn = Turn([tool.name for tool in tools], None, "", True, cost)
        self.turns.append(turn)
        return turn


def _account(turn: Turn, reply: Reply, began: float) -> None:
    call, turn.cut = turn.call, reply.finish_reason == "length"
    call.start = reply.began - began
    call.end = call.start + reply.ended
    call.arrivals, call.sfi = reply.arrivals, reply.sfi
    call.prompt_tokens, call.output_tokens = reply.prompt_tokens, reply.completion_tokens
    call.cached_tokens = reply.cached_tokens
    call.queue, call.prefill = reply.timing.get("queue"), reply.timing.get("prefill")


def _message(turn: Turn, reply: Reply) -> Message:
    """Note the call that was made; the message for the history."""
    made = reply.message.get("tool_calls", [])[:1]
    if not made or not whole(made[0]["function"]["arguments"]):
        turn.arguments = "".join(call["function"]["arguments"] for call in made)
        content = reply.message["content"] or "".join(as_text(**call["function"]) for call in made)
        return {"role": "assistant", "content": content}
    turn.tool, turn.arguments, turn.failed = made[0]["function"]["name"], made[0]["function"]["arguments"], False
    return {"role": "assistant", "content": as_text(turn.tool, turn.arguments), "tool_calls": made}


def whole(arguments: str) -> bool:
    """Whether they are a JSON object: MAX_TOKENS may have cut them, and templates load the history's arguments."""
    try:
        return isinstance(parse(arguments), dict)
    except ValueError:
        return False


def describe(about: str, tools: Sequence[Tool]) -> str:
    """The system prompt. It names the tools itself: small models' chat templates drop the request's `tools`."""
    lines = [f"- {tool.name}({', '.join(tool.schema()['properties'])}): {tool.description}" for tool in tools]
    task = f"{about} Each turn you call one of these tools:"
    return "\n".join([task, *lines, f"Write {CALL_START}, the call as JSON, {CALL_END} and nothing else."])


def as_text(name: str, arguments: str) -> str:
    """A call as the model writes it, for templates that drop `tool_calls`."""
    return f'{CALL_START}\n{{"name": "{name}", "arguments": {arguments}}}\n{CALL_END}'


def execute(tools: dict[str, Tool], turn: Turn) -> str:
    """The text for the model: the tool's output, or the error, and then the turn is marked as failed."""
    try:
        if turn.tool not in tools:
            raise ToolError(f"there is no tool {turn.tool}")
        return tools[turn.tool].run(turn.arguments)
    except ToolError as error:
        turn.failed = True
        return f"Error: {error}"
