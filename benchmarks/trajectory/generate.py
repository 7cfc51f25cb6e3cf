"""Texts for a plan of lengths: OpenAI chat messages in layers that are shared by all, by a project, by a session."""

import json
import platform
from typing import Any

from sfi_sglang.client.filler import Filler, Kind
from sfi_sglang.client.token_count import MESSAGE_TOKENS, Count
from sfi_sglang.trajectory.plan import PlannedTurn, make_plan
from sfi_sglang.trajectory.presets import Preset
from sfi_sglang.trajectory.workload import Message, Trajectory, Turn, Workload

# name, description, argument, what the results look like
TOOLS: tuple[tuple[str, str, str, Kind], ...] = (
    ("read_file", "Read a part of a source file.", "path", "code"),
    ("find_symbol", "List classes and functions as JSON.", "pattern", "listing"),
    ("read_manual", "Read a page of the language reference.", "topic", "prose"),
)


def generate(preset: Preset, count: Count) -> Workload:
    """The preset's workload; the same preset, counter and Python give the same texts.

    Prompts meet the plan within 2% where the template shows the messages' text alone. Templates that also render
    `tools` and `tool_calls` add about 250 tokens once and 30 a tool call.

    Raises:
        ValueError: not one call fits into `max_context`.
    """
    plan = make_plan(preset)
    writer = Writer(preset, Filler(count, preset.seed), count)
    about = {
        "preset": preset.name,
        "settings": preset.model_dump(mode="json"),
        "calls": sum(map(len, plan.trajectories)),
        "calls_left_out": plan.cut,
        "python": platform.python_version(),  # the texts are from its standard library
    }
    trajectories = tuple(writer.trajectory(index, turns) for index, turns in enumerate(plan.trajectories))
    return Workload(name=preset.name, trajectories=trajectories, about=about)


class Writer:
    """Makes the messages of one workload."""

    def __init__(self, preset: Preset, filler: Filler, count: Count) -> None:
        self.preset, self.filler, self.count = preset, filler, count

    def trajectory(self, index: int, plan: list[PlannedTurn]) -> Trajectory:
        turns: list[Turn] = []
        for number, planned in enumerate(plan):
            key = f"{index}/{number}"
            fresh = not turns or planned.restart
            messages = self.opening(index, planned.context) if fresh else self.addition(planned, turns[-1].reply, key)
            reply = self.reply(planned.output, key)
            tokens = max(self.count(reply["content"]), 1)
            turns.append(
                Turn(
                    messages=messages,
                    reply=reply,
                    output_tokens=tokens,
                    delay=planned.delay,
                    restart=planned.restart and bool(turns),
                )
            )
        tools = () if self.preset.style == "chat" else tuple(map(definition, TOOLS))
        return Trajectory(id=f"{self.preset.name}-{index:03}", turns=tuple(turns), tools=tools)

    def opening(self, index: int, context: int) -> tuple[Message, ...]:
        """The global and the project layer are one system message: templates differ in what may follow it."""
        preset = self.preset
        shared = self.filler.text("prose", preset.global_tokens - MESSAGE_TOKENS, "global", self.instructions())
        project = index % preset.projects
        notes = self.filler.text("code", preset.project_tokens, f"project/{project}", f"Project {project}.")
        task = f"Task {index}." if context == 0 else f"Task {index}, continued. What was done so far, part {context}:"
        material: Kind = "prose" if preset.style == "chat" else "code"
        session = self.filler.text(material, preset.session_tokens - MESSAGE_TOKENS, f"session/{index}/{context}", task)
        return ({"role": "system", "content": shared + notes}, {"role": "user", "content": session})

    def instructions(self) -> str:
        """Names the tools: small models' templates drop the request's `tools`."""
        if self.preset.style == "chat":
            return "You answer questions. This is the house style."
        lines = [f"- {name}({argument}): {description}" for name, description, argument, _ in TOOLS]
        return "\n".join(["You work on the source code of a project with these tools:", *lines, "The manual:"])

    def addition(self, planned: PlannedTurn, reply: Message, key: str) -> tuple[Message, ...]:
        tokens = max(planned.new - MESSAGE_TOKENS, 1)
        if "tool_calls" not in reply:
            return ({"role": "user", "content": self.filler.text("prose", tokens, f"turn/{key}")},)
        call = reply["tool_calls"][0]
        kind = next(kind for name, _, _, kind in TOOLS if name == call["function"]["name"])
        text = self.filler.text(kind, tokens, f"turn/{key}")
        return ({"role": "tool", "tool_call_id": call["id"], "content": text},)

    def reply(self, tokens: int, key: str) -> Message:
        """Every reply has text, for templates that drop `tool_calls`."""
        if self.preset.style == "chat":
            return {"role": "assistant", "content": self.filler.text("prose", tokens, f"reply/{key}")}
        index, number = map(int, key.split("/"))
        name, _, argument, _ = TOOLS[(index + number) % len(TOOLS)]
        arguments = {argument: f"part_{number}"}
        if self.preset.style == "tools":
            content = self.filler.text("prose", tokens, f"reply/{key}")
        else:
            words = self.filler.text("prose", tokens, f"reply/{key}").split()
            while self.count(content := action(name, {**arguments, "reason": " ".join(words)})) > tokens and words:
                words.pop()
        function = {"name": name, "arguments": json.dumps(arguments)}
        call = {"id": f"call_{index}_{number}", "type": "function", "function": function}
        return {"role": "assistant", "content": content, "tool_calls": [call]}


def action(name: str, arguments: dict[str, str]) -> str:
    return json.dumps({"name": name, "arguments": arguments})


def definition(tool: tuple[str, str, str, Kind]) -> dict[str, Any]:
    """A tool of TOOLS in OpenAI format."""
    name, description, argument, _ = tool
    parameters = {"type": "object", "properties": {argument: {"type": "string"}}, "required": [argument]}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}
