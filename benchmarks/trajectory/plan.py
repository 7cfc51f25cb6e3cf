"""The lengths of a generated workload, before its texts: seeded, and quick at any size."""

import random
from dataclasses import dataclass
from itertools import accumulate

from sfi_sglang.client.token_count import MESSAGE_TOKENS
from sfi_sglang.trajectory.presets import Preset

SHORTEST = 10  # tokens of a draw
ORDERS = 16


@dataclass(frozen=True)
class PlannedTurn:
    """One call. new: tokens that its messages add; prompt: of the whole prompt; output: of the reply; delay in seconds;
    context: number of the part of its trajectory."""

    new: int
    prompt: int
    output: int
    delay: float
    context: int
    restart: bool


@dataclass(frozen=True)
class Plan:
    """turns: of each trajectory. cut: calls left out since they do not fit into `max_context`."""

    trajectories: list[list[PlannedTurn]]
    cut: int


def make_plan(preset: Preset) -> Plan:
    """Draw all lengths and waits.

    Raises:
        ValueError: not one call fits into `max_context`.
    """
    drawn = [_draw(preset, random.Random(f"{preset.seed}/{index}")) for index in range(preset.trajectories)]
    limit = preset.max_context
    fitting = [[turn for turn in turns if limit is None or turn.prompt + turn.output <= limit] for turns in drawn]
    if not all(fitting):
        shortest = min(turns[0].prompt + turns[0].output for turns in drawn)
        raise ValueError(f"max_context: no call of preset {preset.name} fits into {limit}, the first needs {shortest}")
    return Plan(fitting, cut=sum(map(len, drawn)) - sum(map(len, fitting)))


def _draw(preset: Preset, rng: random.Random) -> list[PlannedTurn]:
    outputs = _spread(rng, preset.output_tokens * preset.output_scale, preset.output_spread, preset.turns)
    first = preset.global_tokens + preset.project_tokens + preset.session_tokens
    turns: list[PlannedTurn] = []
    for context in range(preset.contexts):
        calls = preset.turns // preset.contexts + (context < preset.turns % preset.contexts)
        results = _spread(rng, preset.result_tokens, preset.result_spread, calls - 1)
        prompt = 0
        for number, new in enumerate([first, *results][:calls]):
            prompt = prompt + turns[-1].output + MESSAGE_TOKENS + new if number else new
            delay = rng.uniform(*preset.delay) if turns else 0.0
            restart = bool(turns) and number == 0
            turns.append(PlannedTurn(new, prompt, outputs[len(turns)], delay, context, restart))
    return turns


def _spread(rng: random.Random, mean: float, sigma: float, number: int) -> list[int]:
    """Log-normal lengths, scaled to their mean, in the order of a few whose sums along the way are nearest to even
    growth: a few trajectories already have the preset's mean prompt."""
    draws = [rng.lognormvariate(0.0, sigma) for _ in range(number)]
    lengths = [max(round(draw * mean * number / sum(draws)), SHORTEST) for draw in draws]
    orders = [rng.sample(lengths, number) for _ in range(ORDERS)]
    return min(orders, key=lambda order: abs(sum(accumulate(order)) - mean * number * (number + 1) / 2))
