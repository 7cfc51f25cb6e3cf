"""The shapes of generated workloads, as plain data."""

from typing import Any, Literal

from pydantic import Field, ValidationError

from sfi_sglang.trajectory.workload import Strict


class Preset(Strict):
    """Lengths are tokens and count a chat template's overhead per message. Means are kept in every context."""

    name: str
    style: Literal["tools", "actions", "chat"] = Field(
        description="tools: prose and a tool call; actions: the call alone, as JSON; chat: user texts, no tools"
    )
    trajectories: int = Field(ge=1)
    turns: int = Field(ge=1, description="model calls of a trajectory")
    contexts: int = Field(1, ge=1, description="parts of a trajectory: each starts anew, as after a compaction")
    projects: int = Field(2, ge=1, description="trajectories take them in turn")
    global_tokens: int = Field(ge=100, description="system prompt, shared by all trajectories")
    project_tokens: int = Field(ge=100, description="the system prompt's second part, shared within a project")
    session_tokens: int = Field(ge=100, description="a context's first user text")
    result_tokens: int = Field(ge=20, description="mean of what a later turn adds: tool result or user text")
    result_spread: float = Field(0.5, ge=0, description="sigma of the log-normal distribution of these")
    output_tokens: int = Field(ge=8, description="mean of the replies")
    output_spread: float = Field(0.3, ge=0, description="sigma of the log-normal distribution of these")
    output_scale: float = Field(1.0, gt=0, description="factor on the replies' lengths")
    delay: tuple[float, float] = Field(description="least and longest tool wait before a later turn, seconds, uniform")
    max_context: int | None = Field(None, ge=1, description="calls whose prompt and reply need more are left out")
    seed: int = 0


PRESETS = {
    preset.name: preset
    for preset in (
        # Prompts of 49.1K and replies of 659 tokens on average; 91% of the calls go on from an earlier call's prompt,
        # which has 45K tokens on average.
        Preset(
            name="exgentic",
            style="tools",
            trajectories=8,
            turns=22,
            contexts=2,
            global_tokens=3000,
            project_tokens=2000,
            session_tokens=2600,
            result_tokens=7636,
            output_tokens=659,
            delay=(1.0, 3.0),
        ),
        # A coding session near the end of its context: 149.6K to 159.6K tokens.
        Preset(
            name="coding",
            style="tools",
            trajectories=4,
            turns=6,
            global_tokens=10_000,
            project_tokens=60_000,
            session_tokens=79_600,
            result_tokens=1500,
            output_tokens=425,
            delay=(1.0, 3.0),
            max_context=160_000,
        ),
        # Short actions, 8K to 32K tokens.
        Preset(
            name="toolcall",
            style="actions",
            trajectories=8,
            turns=24,
            global_tokens=3000,
            project_tokens=3000,
            session_tokens=2000,
            result_tokens=1000,
            output_tokens=40,
            output_spread=0.15,  # the call without its reason has 25
            delay=(0.5, 1.5),
            max_context=32_768,
        ),
        # A long chat, 2K to 16K tokens; the wait is the user's.
        Preset(
            name="chat",
            style="chat",
            trajectories=8,
            turns=32,
            global_tokens=1000,
            project_tokens=500,
            session_tokens=500,
            result_tokens=130,
            output_tokens=300,
            delay=(2.0, 8.0),
            max_context=16_384,
        ),
        # For a CPU and the embedded model: minutes.
        Preset(
            name="smoke",
            style="tools",
            trajectories=2,
            turns=4,
            global_tokens=600,
            project_tokens=400,
            session_tokens=500,
            result_tokens=1100,
            output_tokens=48,
            delay=(0.2, 0.2),
            max_context=8192,
        ),
    )
}


def preset(name: str, **changes: Any) -> Preset:
    """A preset by name with some fields changed.

    Raises:
        ValueError: no such preset or field, or a value out of range; names it.
    """
    if name not in PRESETS:
        raise ValueError(f"preset: {name!r} is none of {', '.join(PRESETS)}")
    try:
        return Preset.model_validate({**PRESETS[name].model_dump(), **changes})
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
