"""Sentences to hide things in: natural ones, because random words break small models past 3K tokens."""

import random
from collections.abc import Sequence

from sfi_sglang.evals.task import Count

SUBJECTS = (
    "The harbor master", "An old teacher", "My neighbour", "The night train", "A young engineer", "The village baker",
    "Our guide", "The head gardener", "A quiet librarian", "The ferry captain",
)  # fmt: skip
VERBS = (
    "walked slowly past", "wrote a long letter about", "could not forget", "painted a picture of",
    "talked at dinner about", "took great care of", "sold the last tickets for", "asked everyone about",
)  # fmt: skip
OBJECTS = (
    "the stone bridge", "the winter market", "a silver lamp", "the garden behind the church", "the broken clock",
    "a small yellow boat", "the road to the mountains", "the music school", "the empty station", "a box of old maps",
)  # fmt: skip
ENDINGS = (
    "before the rain began", "while the children played outside", "on the first day of spring", "as the sun went down",
    "although nobody had asked", "because the evening was warm", "and then went home", "just after the bells had rung",
)  # fmt: skip


def sentences(tokens: int, rng: random.Random, count: Count) -> list[str]:
    """As many as fill `tokens` tokens, about."""
    made, size = list[str](), 0
    while size < tokens:
        made.append(" ".join(rng.choice(part) for part in (SUBJECTS, VERBS, OBJECTS, ENDINGS)) + ".")
        size += count(f" {made[-1]}")
    return made


def hide(facts: Sequence[str], made: list[str], depth: float) -> list[str]:
    """The sentences with the first fact at `depth` and the others spread evenly over the rest, around the end."""
    places = sorted((int((depth + i / len(facts)) % 1 * (len(made) + 1)), fact) for i, fact in enumerate(facts))
    hidden = list(made)
    for place, fact in reversed(places):
        hidden.insert(place, fact)
    return hidden
