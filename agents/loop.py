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
CALL_END = "</tool_call>"  # the grammar admits prose after a call; stop there, and leave the mark for the parser
TIMEOUT, RETRIES = 300.0, 2
NUDGE = "You made this same call before. Make a different one."


def make_client(url: str) -> openai.OpenAI:
    """A client of a local server; a request may take TIMEOUT seconds and is tried RETRIES times more."""
    return openai.OpenAI(base_url=f"{url}/v1", api_key="none", timeout=TIMEOUT, max_retries=RETRIES)


@dataclass
class Turn:
    """One request: its call, and what it cost in seconds and tokens. `decode_seconds` is time after the first token."""

    tool: str
    arguments: str
    failed: bool
    seconds: float
    first_token_seconds: float
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
    plan: Sequence[str] = (),
    sfi: dict[str, Any] | None = None,
    max_steps: int = 8,
    transcript: Path | None = None,
) -> AgentResult:
    """Work on `task`. `plan` names the tools of the first steps, for models too small to choose; a failed step of it is
    tried again. Never raises for API or tool errors: they are in the result, which `transcript` keeps as JSON."""
    by_name = {tool.name: tool for tool in tools}
    messages = [{"role": "system", "content": describe(tools)}, {"role": "user", "content": task}]
    result = AgentResult()
    remaining = list(plan)
    seen: set[tuple[str, str]] = set()
    try:
        while result.finish_reason != "answered" and result.steps < max_steps:
            choice = remaining[0] if remaining else None
            if choice and result.turns:
                messages.append({"role": "user", "content": f"{task} Now call {choice}."})
            turn, call_id = ask(client, model, messages, tools, choice, sfi)
            result.turns.append(turn)
            output = execute(by_name, turn)
            if (turn.tool, turn.arguments) in seen:
                output = f"{NUDGE}\n{output}"
            seen.add((turn.tool, turn.arguments))
            messages += exchange(turn, call_id, output)
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
    return "\n".join(["You answer questions about Python source files. Each turn you call one tool:", *lines])


def ask(
    client: openai.OpenAI,
    model: str,
    messages: list[dict[str, Any]],
    tools: Sequence[Tool],
    choice: str | None,
    sfi: dict[str, Any] | None,
) -> tuple[Turn, str]:
    """One request for one call, of tool `choice` or of any; returns what came back and the call's id."""
    began = time.perf_counter()
    response = client.chat.completions.create(  # type: ignore[call-overload]
        model=model,
        messages=messages,
        tools=[tool.definition() for tool in tools],
        tool_choice={"type": "function", "function": {"name": choice}} if choice else "required",
        parallel_tool_calls=False,
        temperature=0,
        max_tokens=MAX_TOKENS,
        stop=CALL_END,
        extra_body={"sfi": sfi, "return_meta_info": True, "no_stop_trim": True},
    )
    seconds = time.perf_counter() - began
    reply = response.choices[0]
    meta = reply.model_extra["meta_info"]
    calls = reply.message.tool_calls
    name, arguments, call_id = choice or "", reply.message.content or "", "call_0"
    if calls:
        name, arguments, call_id = calls[0].function.name, calls[0].function.arguments, calls[0].id
    turn = Turn(
        tool=name,
        arguments=arguments,
        failed=not calls,
        seconds=seconds,
        first_token_seconds=meta["first_token_latency"],
        decode_seconds=meta["e2e_latency"] - meta["first_token_latency"],
        prompt_tokens=meta["prompt_tokens"],
        completion_tokens=meta["completion_tokens"],
        cached_tokens=meta["cached_tokens"],
        sfi=meta.get("sfi"),
    )
    return turn, call_id


def execute(tools: dict[str, Tool], turn: Turn) -> str:
    """The text for the model: the tool's output, or the error, and then the turn is marked as failed."""
    try:
        if turn.failed or turn.tool not in tools:
            raise ToolError("this was no complete tool call")
        return tools[turn.tool].run(turn.arguments)
    except ToolError as error:
        turn.failed = True
        return f"Error: {error}"


def exchange(turn: Turn, call_id: str, output: str) -> list[dict[str, Any]]:
    """The assistant's call and the tool's reply. The call is in `content` too, for templates that drop tool_calls."""
    function = {"name": turn.tool, "arguments": turn.arguments}
    call = {"id": call_id, "type": "function", "function": function}
    return [
        {"role": "assistant", "content": f"{turn.tool}({turn.arguments})", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": call_id, "content": output},
    ]
