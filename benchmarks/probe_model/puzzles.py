"""Facts to hide, and questions whose answers stand in them.

No sentence, label or name is one of `sfi_sglang.evals`: what a model learns here, it has to carry over to those.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from benchmarks.probe_model import phrases
from benchmarks.probe_model.calls import calls
from benchmarks.probe_model.puzzle import Ask, Puzzle
from benchmarks.probe_model.scene import Scene
from benchmarks.probe_model.values import SHORT, WEIGHTS, number, pick
from benchmarks.probe_model.words import ALIASES, ATTRIBUTES, RESOURCES, STEMS, town

Family = Callable[["Draw", int], list[Puzzle]]
QUOTED = (12, 60)  # words of a passage
BEGUN = (4, 7)  # words of it that the question gives
SAME_WORDS = 0.4  # share of the questions that begin the answer in the fact's own words


@dataclass
class Draw:
    """What families draw from. passage: a piece of real text of about so many words. used: words that this document has
    for keys already, so that no question has two answers."""

    rng: random.Random
    scene: Scene
    passage: Callable[[int], str]
    used: set[str] = field(default_factory=set)

    def fresh(self, words: Sequence[str], many: int) -> list[str]:
        """At most `many` words that no one had before."""
        free = [word for word in words if word not in self.used]
        found = self.rng.sample(free, min(many, len(free)))
        self.used.update(found)
        return found

    def form(self, forms: Sequence[str], **words: str) -> str:
        return fill(self.rng.choice(forms), **words)

    def some(self, forms: Sequence[str], many: int, **words: str) -> list[str]:
        return [fill(form, **words) for form in self.rng.sample(forms, many)]

    def lead(self, fact: str, value: str, forms: Sequence[str], share: float, **words: str) -> str:
        """The beginning of an answer: the fact up to the value, if that stands last in it, or one of `forms`, which
        `share` of the questions have."""
        before = fact.removesuffix(".").removesuffix(value)
        if before.endswith(" ") and len(before) < len(fact) and self.rng.random() < SAME_WORDS:
            return before.rstrip()
        return self.form(forms, **words) if self.rng.random() < share else ""


def fill(form: str, **words: str) -> str:
    """`form` with its fields; a field written in capitals gets a large first letter."""
    large = {name.upper(): word[:1].upper() + word[1:] for name, word in words.items()}
    return form.format(**words, **large)


def attributes(draw: Draw, many: int) -> list[Puzzle]:
    """Things with one attribute each: only the thing's name tells the facts apart."""
    rng, made = draw.rng, []
    make, told = pick(rng, WEIGHTS), rng.sample(phrases.TOLD, rng.choice((1, 1, 1, 3)))
    for attribute in draw.fresh(ATTRIBUTES, 1):
        for thing in rng.sample(draw.scene.things, min(many, len(draw.scene.things))):
            words = {"a": attribute, "e": thing}
            value = make(rng)
            fact = draw.form(told, **words, v=value)
            asks = [
                Ask(draw.form(phrases.ASKED, **words), draw.lead(fact, value, phrases.LEADS, 0.6, **words), f" {value}")
                for _ in range(rng.choice((1, 1, 2)))
            ]
            made.append(Puzzle([fact], asks))
    return made


def lists(draw: Draw, many: int) -> list[Puzzle]:
    """Things with two to five values each, told one by one, to be listed in their order."""
    rng, made = draw.rng, []
    make, told = pick(rng, SHORT), rng.choice(phrases.ONE_OF)
    joint = rng.choices((", ", " and ", "; "), (8, 1, 1))[0]
    for attribute in draw.fresh(ATTRIBUTES, 1):
        for thing in rng.sample(draw.scene.things, min(max(1, many // 3), len(draw.scene.things))):
            words, values = {"a": attribute, "e": thing}, [make(rng) for _ in range(rng.randint(2, 5))]
            asks = [
                Ask(draw.form(phrases.LIST_ASKED, **words), lead, f" {joint.join(values)}")
                for lead in rng.sample([*draw.some(phrases.LIST_LEADS, 2, **words), ""], rng.choice((1, 1, 2)))
            ]
            made.append(Puzzle([fill(told, **words, v=value) for value in values], asks))
    return made


def chains(draw: Draw, many: int) -> list[Puzzle]:
    """A name with a value, and names that stand for other names, in their order: some chains beside each other."""
    rng, made, left = draw.rng, [], max(2, many)
    kind, base, same = rng.choice(phrases.SYMBOLS), rng.choice(phrases.BASES), rng.choice(phrases.SAME)
    pool = ALIASES if rng.random() < 0.7 else [town(rng).lower() for _ in range(100)]
    make = number if rng.random() < 0.75 else pick(rng, SHORT)
    while left > 0 and len(names := draw.fresh(pool, rng.randint(2, 5))) > 1:
        value = make(rng)
        facts = [fill(base, k=kind, n=names[0], v=value)]
        facts += [fill(same, k=kind, n=new, o=old) for old, new in pairwise(names)]
        asks = [
            Ask(draw.form(phrases.CHAIN_ASKED, **words), draw.form(phrases.CHAIN_LEADS, **words), f" {value}")
            for name in rng.sample(names[1:], rng.randint(1, min(2, len(names) - 1)))
            for words in [{"k": kind, "n": name}]
        ]
        made.append(Puzzle(facts, asks))
        left -= len(names)
    return made


def copies(draw: Draw, many: int) -> list[Puzzle]:
    """Things of different forms behind labels, each to be repeated as it stands."""
    rng, made = draw.rng, []
    label, repeated = rng.choice(phrases.LABELLED), rng.sample(phrases.REPEATED, 2)
    owner = rng.choice((town(rng), f"the {rng.choice(RESOURCES)}", f"{rng.choice(STEMS)} {rng.randrange(1, 40)}", ""))
    of = draw.form(phrases.OWNERS, e=owner) if owner else ""
    for name in draw.fresh([*ATTRIBUTES, *RESOURCES, *STEMS], many):
        value, words = pick(rng, WEIGHTS)(rng), {"a": name, "of": of}
        fact = fill(label, **words, v=value)
        asks = [
            Ask("", draw.lead(fact, value, repeated, 1.0, **words), f" {value}") for _ in range(rng.choice((1, 1, 2)))
        ]
        made.append(Puzzle([fact], asks, line=True))
    return made


def dump(draw: Draw, many: int) -> list[Puzzle]:
    """A table of keys and values, all in one place; a part of it is asked for."""
    rng = draw.rng
    make_key = rng.choice((town, pick(rng, SHORT), lambda rng: "_".join(rng.sample(ALIASES, 2))))
    make, row = pick(rng, WEIGHTS), rng.choice(phrases.ROWS)
    table = {key: make(rng) for key in draw.fresh([make_key(rng) for _ in range(min(many, 25))], 25)}
    asked = rng.sample(list(table), (len(table) + 1) // 2)
    asks = [Ask(draw.form(phrases.ROW_ASKED, n=key), "", f" {table[key]}") for key in asked]
    return [Puzzle(["\n".join(row.format(n=key, v=value) for key, value in table.items())], asks, line=True)]


def quotes(draw: Draw, many: int) -> list[Puzzle]:
    """Passages of real text to be gone on with word by word."""
    rng, made = draw.rng, []
    for _ in range(min(many, 8)):
        words = draw.passage(rng.randint(*QUOTED)).split()
        begun = rng.randint(*BEGUN)
        if len(words) > begun + 3:
            lead = fill(rng.choice(phrases.QUOTED), s=" ".join(words[:begun]))
            made.append(Puzzle([" ".join(words)], [Ask("", lead, f" {' '.join(words[begun:])}")], line=True))
    return made


def called(draw: Draw, many: int) -> list[Puzzle]:
    """Results of tools, and calls made of them."""
    return calls(draw.rng, draw.scene.things, draw.fresh(RESOURCES, min(many, 12)))


FAMILIES: dict[Family, float] = {attributes: 6, lists: 3, chains: 4, copies: 5, called: 4, dump: 1, quotes: 2}
