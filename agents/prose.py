"""Natural sentences without a number, made from a seed: random words break SmolLM2 past 3K tokens."""

import random

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


def sentence(rng: random.Random) -> str:
    """About 17 tokens."""
    return " ".join(rng.choice(part) for part in (SUBJECTS, VERBS, OBJECTS, ENDINGS)) + "."
