"""Does memory carried over turns help? Facts planted in turn 1 are asked for in the last turn, by carry mode.

The history is fixed (the model's notes are not fed back), so that every mode sees the same tokens. Every mode has a
radix namespace of its own: no selection is shared, and each mode's first tokens find what that mode itself has cached.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sfi_sglang.client.generate import generate
from sfi_sglang.client.token_count import Count
from sfi_sglang.evals.outcomes import Outcome, Turns
from sfi_sglang.evals.prose import hide, sentences
from sfi_sglang.evals.retrieval import PLACES, code, digits, question, tells
from sfi_sglang.evals.task import randomness
from sfi_sglang.evals.variants import DENSE, Sight, Variant

TASK = "carry"
FACTS = 3  # planted in turn 1, asked for one by one in the last turn
NOTE = " I have read it and will keep it in mind.\n"
NOTE_TOKENS, ANSWER_TOKENS = 16, 12
MODES: dict[str, tuple[dict[str, str], str]] = {
    "fresh": ({"carry": "fresh"}, "each turn looks at the whole context anew (the default)"),
    "inherit": ({"carry": "inherit"}, "a turn looks at what the last one selected, and at new tokens"),
    "merge": ({"carry": "merge"}, "a turn looks at the whole context; what the last one selected counts for more"),
    "sparse": ({"carry": "merge", "extend": "sparse"}, "as merge, and new tokens see a part of what is cached"),
}


def variants(sight: Sight) -> list[Variant]:
    """Dense, the carry modes, and sparse extend."""
    modes = [Variant(mode, {**sight._asdict(), **changes}, about) for mode, (changes, about) in MODES.items()]
    return [Variant(DENSE, None, "full attention at every step"), *modes]


@dataclass(frozen=True)
class Conversation:
    """prompts: of the turns before the last. asked: (prompt, number) of the forks of the last turn. length: tokens of
    these, about."""

    kind: str
    length: int
    seed: int
    prompts: list[str]
    asked: list[tuple[str, str]]


def conversation(length: int, turns: int, seed: int, count: Count) -> Conversation:
    """A conversation whose last prompt has about `length` tokens."""
    kind = f"told in turn 1 of {turns}"
    rng = randomness(TASK, kind, seed)
    places, numbers = rng.sample(PLACES, FACTS), digits(rng, FACTS)
    reports = [sentences(length // turns, rng, count) for _ in range(turns)]
    reports[0] = hide(list(map(code, places, numbers)), reports[0], 1 / (2 * FACTS))
    history, prompts = "", []
    for made in reports[:-1]:
        prompts.append(f"{history}Report: {' '.join(made)}\nNote:")
        history = prompts[-1] + NOTE
    last = f"{history}Report: {' '.join(reports[-1])}\n"
    asked = [(last + question(place), number) for place, number in zip(places, numbers, strict=True)]
    return Conversation(kind, length, seed, prompts, asked)


def answer(url: str, asked: Conversation, variant: Variant) -> Outcome:
    """A whole conversation in one mode.

    Raises:
        ConnectionError, RuntimeError: as `generate` does.
    """

    def reply(prompt: str, tokens: int) -> dict[str, Any]:
        return generate(url, prompt, tokens, variant.sfi or False, ignore_eos=True, extra_key=f"{TASK} {variant.label}")

    earlier = [reply(prompt, NOTE_TOKENS) for prompt in asked.prompts]
    last = [reply(prompt, ANSWER_TOKENS) for prompt, _ in asked.asked]
    texts = [found["text"] for found in last]
    return Outcome(
        task=TASK,
        kind=asked.kind,
        length=asked.length,
        seed=asked.seed,
        variant=variant.label,
        right=[tells(text, [number]) for text, (_, number) in zip(texts, asked.asked, strict=True)],
        text=" | ".join(texts),
        turns=cost([found["meta_info"] for found in (*earlier[1:], *last)]),
    )


def cost(replies: Sequence[dict[str, Any]]) -> Turns:
    """replies: the `meta_info` of requests after the first turn."""
    reports = [reply["sfi"] for reply in replies if "sfi" in reply]
    sums = {name: sum(found[name] for found in reports) for name in ("prompt_tokens", "inherited_tokens", "slow_steps")}
    seconds = [reply["first_token_latency"] for reply in replies if "first_token_latency" in reply]
    return Turns(requests=len(replies), first_token_seconds=seconds, **sums)
