"""Needle retrieval: is a number told once in a long text still found when most of the context is out of sight?

One trial is one prompt: natural sentences (random words break dense SmolLM2 past 3K tokens), the number at a depth that
varies over the trials, the question last. Every variant answers the same prompts, so the prefix cache prefills once.
"""

import random
import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import repeat
from typing import Any

from sfi_sglang.client.generate import generate
from sfi_sglang.evals.prose import sentences

ANSWER_TOKENS = 12


@dataclass(frozen=True)
class Variant:
    """One way to decode: a label and the request's `sfi` value (None: dense)."""

    label: str
    sfi: dict[str, Any] | None


@dataclass(frozen=True)
class Trial:
    prompt: str
    number: str


@dataclass(frozen=True)
class Score:
    """Retrieved of trials by one variant at one prompt length (tokens)."""

    variant: str
    length: int
    found: int
    trials: int
    fast_steps: int
    slow_steps: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def variants(budget: int, recent: int = 256) -> list[Variant]:
    return [
        Variant("dense", None),
        Variant(f"span {budget}", {"budget": budget, "recent": recent, "selector": "span"}),
        Variant(f"paper {budget}", {"budget": budget, "recent": recent, "selector": "paper"}),
        Variant(f"sink+recent {budget + recent}", {"recent": budget + recent, "policy": "never"}),
    ]


def make_trial(tokens: int, depth: float, seed: int, count_tokens: Callable[[str], int]) -> Trial:
    """A prompt of about `tokens` tokens with the needle at `depth` (0 first sentence, 1 last)."""
    rng = random.Random(seed)
    number = str(rng.randrange(10000, 99999))
    question = "\nQuestion: What is the magic number mentioned above?\nAnswer: The magic number is"
    made = sentences(tokens - count_tokens(question) - 12, rng, count_tokens)
    made.insert(int(depth * len(made)), f"The magic number is {number}.")
    return Trial(" ".join(made) + question, number)


def make_trials(tokens: int, count: int, seed: int, count_tokens: Callable[[str], int]) -> list[Trial]:
    return [make_trial(tokens, (i + 0.5) / count, seed * 1000 + tokens + i, count_tokens) for i in range(count)]


def found(text: str, number: str) -> bool:
    """Is the first number in the answer the right one, whole?"""
    match = re.search(r"\d+", text)
    return match is not None and match.group() == number


def evaluate(
    url: str,
    trials: Iterable[Trial],
    length: int,
    chosen: list[Variant],
    done: Callable[[], None] = lambda: None,
) -> list[Score]:
    """Ask every trial of every variant, a trial's variants together in one batch once its prompt is cached."""

    def ask(variant: Variant, trial: Trial) -> dict[str, Any]:
        return generate(url, trial.prompt, ANSWER_TOKENS, variant.sfi or False)

    replies: dict[str, list[tuple[bool, dict[str, Any]]]] = {variant.label: [] for variant in chosen}
    with ThreadPoolExecutor(len(chosen)) as pool:
        for trial in trials:
            first = ask(chosen[0], trial)
            others = pool.map(ask, chosen[1:], repeat(trial))
            for variant, reply in zip(chosen, [first, *others], strict=True):
                replies[variant.label].append((found(reply["text"], trial.number), reply["meta_info"].get("sfi") or {}))
            done()
    return [
        Score(
            label,
            length,
            sum(ok for ok, _ in results),
            len(results),
            sum(info.get("fast_steps", 0) for _, info in results),
            sum(info.get("slow_steps", 0) for _, info in results),
        )
        for label, results in replies.items()
    ]
