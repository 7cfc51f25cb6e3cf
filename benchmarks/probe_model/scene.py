"""What one document speaks of, and sentences about it: a small vocabulary drawn for every document.

A document's haystack repeats few words in many combinations, and names the very things that are asked for: the answer
must be found by the whole fact, not by the only line that is unlike the others.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.probe_model.words import ADJECTIVES, ENDINGS, FIRST_NAMES, NOUNS, ROLES, THINGS, VERBS, town

PATTERNS = (
    "{who} {did} {what} {end}.", "{who} {did} {what} {end}.", "{who} {did} {what}.", "{End}, {who2} {did} {what}.",
    "{who} and {who2} {did} {what} {end}.", "{who} {did} {what}, but {who2} {did2} {what2}.",
    "Later {who2} {did} {what} {end}.", "It was {who2} who {did} {what} {end}.",
    "Then {who2} {did} {what}; {who3} did not.",
)  # fmt: skip


@dataclass(frozen=True)
class Scene:
    """people begin a sentence when capitalised; things are noun phrases with their article, all different."""

    people: list[str]
    verbs: list[str]
    things: list[str]
    endings: list[str]
    patterns: list[str]

    def sentence(self, rng: random.Random) -> str:
        """About 8 to 30 tokens."""
        who, who2, who3 = (rng.choice(self.people) for _ in range(3))
        end = rng.choice(self.endings)
        text = rng.choice(self.patterns).format(
            who=who[0].upper() + who[1:],
            who2=who2,
            who3=who3,
            did=rng.choice(self.verbs),
            did2=rng.choice(self.verbs),
            what=rng.choice(self.things),
            what2=rng.choice(self.things),
            end=end,
            End=end[0].upper() + end[1:],
        )
        return text


def make_scene(rng: random.Random, things: int) -> Scene:
    """things: how many different ones there must be at least."""
    people = rng.sample([*ROLES, *FIRST_NAMES, *(town(rng) for _ in range(10))], rng.randint(5, 30))
    named = {rng.choice(NAMES)(rng): None for _ in range(2 * things)}
    while len(named) < things:
        named |= {rng.choice(NAMES)(rng): None}
    return Scene(
        people,
        rng.sample(VERBS, rng.randint(4, 24)),
        list(named),
        rng.sample(ENDINGS, rng.randint(4, 20)),
        rng.sample(PATTERNS, rng.randint(1, 4)),
    )


NAMES: tuple[Callable[[random.Random], str], ...] = (
    lambda rng: f"the {rng.choice(ADJECTIVES)} {rng.choice(NOUNS)}",
    lambda rng: f"the {rng.choice(ADJECTIVES)} {rng.choice(THINGS)}",
    lambda rng: f"the {rng.choice(NOUNS)} {rng.choice(('in', 'near', 'behind', 'of'))} {town(rng)}",
    lambda rng: f"the {rng.choice(THINGS)} {rng.choice(NOUNS)}",
    lambda rng: town(rng),
    lambda rng: f"{rng.choice(FIRST_NAMES)} {town(rng)}",
    lambda rng: f"{rng.choice(NOUNS)} {rng.choice('KLMNPRSTVWXZ')}{rng.randrange(1, 99)}",
)
