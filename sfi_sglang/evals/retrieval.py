"""Retrieval in the manner of RULER (arXiv 2404.06654): facts told once in a long text, asked for at its end."""

import itertools
import random
import re
from collections.abc import Callable
from dataclasses import dataclass

from sfi_sglang.client.token_count import Count
from sfi_sglang.evals.prose import hide, sentences
from sfi_sglang.evals.task import Item, Task, randomness

PLACES = (
    "stone bridge", "music school", "north gate", "old mill", "grain store", "boat house", "glass tower", "salt cellar",
)  # fmt: skip
NAMES = ("amber", "birch", "cedar", "delta", "ember", "fjord", "garnet", "heron")
KEYS, VALUES, HOPS = 4, 3, 2  # of the tasks with several
NOTE = "\nNote: I have read it and will keep it in mind.\n"
TURNS = 4  # of the conversation of kind `earlier turn`
DIGITS = 5


class Retrieval(Task):
    name = "retrieval"
    about = "facts told once in a long text: one number, one of several, several of one place, through names, in turn 1"
    kinds = ("single", "multi-key", "multi-value", "variables", "earlier turn")

    def item(self, kind: str, length: int, depth: float, seed: int, count: Count) -> Item:
        rng = randomness(self.name, kind, seed)
        asked = ASKED[kind](rng)
        size = length - count(asked.question) - sum(count(f" {fact}") for fact in asked.facts)
        if kind != "earlier turn":
            text = " ".join(hide(asked.facts, sentences(size, rng, count), depth / asked.ordered))
            return Item(kind, length, depth, seed, text + asked.question, asked.answer, asked.tokens)
        parts = [sentences(size // TURNS - count(NOTE), rng, count) for _ in range(TURNS)]
        parts[0] = hide(asked.facts, parts[0], depth)
        reports = [f"Report: {' '.join(part)}" for part in parts]
        turns = tuple(NOTE.join(reports[: turn + 1]) for turn in range(TURNS))
        return Item(kind, length, depth, seed, turns[-1] + asked.question, asked.answer, asked.tokens, turns[:-1])

    def right(self, item: Item, text: str) -> bool:
        """The first numbers of the continuation are the right ones, whole and in order."""
        return tells(text, re.findall(r"\d+", item.answer))


@dataclass(frozen=True)
class Asked:
    """facts: sentences to hide. question: the prompt's end, with the beginning of the answer. ordered: how many facts
    must stand in their order, so that the first has to stand in the text's first part."""

    facts: list[str]
    question: str
    answer: str
    tokens: int = 12
    ordered: int = 1


def single(rng: random.Random) -> Asked:
    place = rng.choice(PLACES)
    return Asked([code(place, number := digits(rng, 1)[0])], f"\n{question(place)}", number)


def multi_key(rng: random.Random) -> Asked:
    places, numbers = rng.sample(PLACES, KEYS), digits(rng, KEYS)
    return Asked(list(map(code, places, numbers)), f"\n{question(places[0])}", numbers[0])


def multi_value(rng: random.Random) -> Asked:
    place, numbers = rng.choice(PLACES), digits(rng, VALUES)
    facts = [f"One of the access codes of the {place} is {number}." for number in numbers]
    asked = f"\nQuestion: What are all access codes of the {place}, as they follow in the text?\nAnswer: They are"
    return Asked(facts, asked, ", ".join(numbers), 40, VALUES)


def variables(rng: random.Random) -> Asked:
    names, number = rng.sample(NAMES, HOPS + 1), digits(rng, 1)[0]
    facts = [f"The code {names[0]} is {number}."]
    facts += [f"The code {new} is the same as the code {old}." for old, new in itertools.pairwise(names)]
    asked = f"\nQuestion: Which number is the code {names[-1]}?\nAnswer: The code {names[-1]} is the number"
    return Asked(facts, asked, number, ordered=len(facts))


def code(place: str, number: str) -> str:
    return f"The access code of the {place} is {number}."


def question(place: str) -> str:
    return f"Question: What is the access code of the {place}?\nAnswer: The access code of the {place} is"


def tells(text: str, numbers: list[str]) -> bool:
    """Are the text's first numbers these, whole and in this order?"""
    return re.findall(r"\d+", text)[: len(numbers)] == numbers


def digits(rng: random.Random, many: int) -> list[str]:
    return [str(number) for number in rng.sample(range(10 ** (DIGITS - 1), 10**DIGITS), many)]


ASKED: dict[str, Callable[[random.Random], Asked]] = {
    "single": single,
    "multi-key": multi_key,
    "multi-value": multi_value,
    "variables": variables,
    "earlier turn": single,
}
