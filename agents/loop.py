"""The agent loop: one forced tool call a turn, its result fed back, until the `answer` tool or the step limit."""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import openai

from sfi_sglang.agents.tools import Tool, ToolError

FINAL = "answer"
MAX_TOKENS = 128
TIMEOUT, RETRIES = 300.0, 2
CALL_START, CALL_END = "<tool_call>", "</tool_call>"  # some servers' grammars admit prose around: stop at the end mark
NO_CALL = "Error: this was no complete tool call."
NUDGE = "You made this same call before. Make a different one."

Message = dict[str, Any]


def make_client(url: str) -> openai.OpenAI:
    """A client of a local server; a request may take TIMEOUT seconds and is tried RETRIES times more."""
    return openai.OpenAI(base_url=f"{url}/v1", api_key="none", timeout=TIMEOUT, max_retries=RETRIES)


@dataclass(frozen=True)
class Step:
    """A planned step: the tool to call, and what to tell the model about it."""

    tool: str
    instruction: str


@dataclass
class Turn:
    """One request: its call (tool None: the model made none), its cost in seconds and tokens, the server's SFI report.
    `decode_seconds` is the time after the first token."""

    tool: str | None
    arguments: str
    failed: bool
    seconds: float
    decode_seconds: float
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    sfi: dict[str, Any] | None


@dataclass
class AgentResult:
    answer: str | None = None
    finish_reason: Literal["answered", "step_limit", "error"] = "step_limit"
    error: str | None = None
    turns: list[Turn] = field(default_factory=list)

    @property
    def steps(self) -> int:
        return len(self.turns)

    @property
    def seconds(self) -> float:
        return sum(turn.seconds for turn in self.turns)


def run_agent(
    client: openai.OpenAI,
    model: str,
    task: str,
    tools: Sequence[Tool],
    *,
    plan: Sequence[Step] = (),
    sfi: dict[str, Any] | None = None,
    max_steps: int = 8,
    transcript: Path | None = None,
) -> AgentResult:
    """Work on `task`; `transcript` keeps the messages and the result as JSON. API and tool errors are in the result.

    plan: the first steps, for models too small to choose. A failed step is tried again; after the plan, or
    without one, the model may call any tool.
    """
    by_name = {tool.name: tool for tool in tools}
    messages: list[Message] = [{"role": "system", "content": describe(tools)}, {"role": "user", "content": task}]
    result = AgentResult()
    remaining = list(plan)
    seen: set[tuple[str, str]] = set()
    try:
        while result.finish_reason != "answered" and result.steps < max_steps:
            offered = [by_name[remaining[0].tool]] if remaining else tools
            if remaining:
                step = remaining[0]
                messages.append({"role": "user", "content": f"Now call {step.tool}. {step.instruction}"})
            turn, reply = ask(client, model, messages, offered, sfi)
            result.turns.append(turn)
            messages.append(reply)
            if turn.tool is None:
                messages.append({"role": "user", "content": NO_CALL})
                continue
            output = execute(by_name, turn)
            call = (turn.tool, turn.arguments)
            content = f"{NUDGE}\n{output}" if call in seen else output
            seen.add(call)
            messages.append({"role": "tool", "tool_call_id": reply["tool_calls"][0]["id"], "content": content})
            if not turn.failed:
                remaining = remaining[1:]
                if turn.tool == FINAL:
                    result.answer, result.finish_reason = output, "answered"
    except openai.OpenAIError as error:
        result.finish_reason, result.error = "error", f"{type(error).__name__}: {error}"
    if transcript:
        transcript.parent.mkdir(parents=True, exist_ok=True)
        record = {"model": model, "sfi": sfi, "messages": messages, **asdict(result)}
        transcript.write_text(json.dumps(record, indent=1))
    return result


def describe(tools: Sequence[Tool]) -> str:
    """The system prompt. It names the tools itself: small models' chat templates drop the request's `tools`."""
    lines = [f"- {tool.name}({', '.join(tool.schema()['properties'])}): {tool.description}" for tool in tools]
    task = "You answer questions about Python source files. Each turn you call one of these tools:"
    return "\n".join([task, *lines, f"Write {CALL_START}, the call as JSON, {CALL_END} and nothing else."])


def as_text(name: str, arguments: str) -> str:
    """A call as the model writes it, for templates that drop `tool_calls`."""
    return f'{CALL_START}\n{{"name": "{name}", "arguments": {arguments}}}\n{CALL_END}'


def ask(
    client: openai.OpenAI, model: str, messages: list[Message], tools: Sequence[Tool], sfi: dict[str, Any] | None
) -> tuple[Turn, Message]:
    """One request for one call of one of `tools`: its record, and the assistant's message for the history.

    Raises:
        openai.OpenAIError: no answer, or a refused request.
    """
    began = time.perf_counter()
    response = client.chat.completions.create(  # type: ignore[call-overload]
        model=model,
        messages=messages,
        tools=[tool.definition() for tool in tools],
        tool_choice="required",
        parallel_tool_calls=False,
        temperature=0,
        max_tokens=MAX_TOKENS,
        stop=CALL_END,
        extra_body={"sfi": sfi, "return_meta_info": True, "no_stop_trim": True},
    )
    seconds = time.perf_counter() - began
    message, meta = response.choices[0].message, response.choices[0].model_extra["meta_info"]
    call = message.tool_calls[0] if message.tool_calls else None
    turn = Turn(
        tool=call.function.name if call else None,
        arguments=call.function.arguments if call else "",
        failed=call is None,
        seconds=seconds,
        decode_seconds=meta["e2e_latency"] - meta["first_token_latency"],
        prompt_tokens=meta["prompt_tokens"],
        completion_tokens=meta["completion_tokens"],
        cached_tokens=meta["cached_tokens"],
        sfi=meta.get("sfi"),
    )
    if call is None:
        return turn, {"role": "assistant", "content": message.content or ""}
    function = {"name": call.function.name, "arguments": call.function.arguments}
    called = {"id": call.id, "type": "function", "function": function}
    text = as_text(call.function.name, call.function.arguments)
    return turn, {"role": "assistant", "content": text, "tool_calls": [called]}


def execute(tools: dict[str, Tool], turn: Turn) -> str:
    """The text for the model: the tool's output, or the error, and then the turn is marked as failed."""
    try:
        if turn.tool not in tools:
            raise ToolError(f"there is no tool {turn.tool}")
        return tools[turn.tool].run(turn.arguments)
    except ToolError as error:
        turn.failed = True
        return f"Error: {error}"
