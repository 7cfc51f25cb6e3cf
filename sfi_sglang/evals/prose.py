"""Sentences to hide things in."""

import random
from collections.abc import Sequence

from sfi_sglang.agents.prose import sentence
from sfi_sglang.client.token_count import Count


def sentences(tokens: int, rng: random.Random, count: Count) -> list[str]:
    """As many as fill `tokens` tokens, about."""
    made, size = list[str](), 0
    while size < tokens:
        made.append(sentence(rng))
        size += count(f" {made[-1]}")
    return made


def hide(facts: Sequence[str], made: list[str], depth: float) -> list[str]:
    """The sentences with the first fact at `depth` and the others spread evenly over the rest, around the end."""
    places = sorted((int((depth + i / len(facts)) % 1 * (len(made) + 1)), fact) for i, fact in enumerate(facts))
    hidden = list(made)
    for place, fact in reversed(places):
        hidden.insert(place, fact)
    return hidden
