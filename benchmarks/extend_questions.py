"""What benchmarks/sparse_extend.py asks: facts in a long prefix, new tokens, a question about a fact.

Kind `one turn`: one tool result on a dense prefix, the question before or behind it. Kind `turns`: facts told in turn 1
and asked for in turn 6, each turn but the first two sparse, on what the sparse ones before it left. Kind `values`:
three values of one key, told in turns 1, 4 and 5 and asked for in turn 6, each turn but the first three sparse.
"""

import itertools
from dataclasses import dataclass
from typing import Any

from sfi_sglang.client.filler import Filler, Kind
from sfi_sglang.evals.prose import hide, sentences
from sfi_sglang.evals.retrieval import NOTE, PLACES, code, digits, multi_value, question
from sfi_sglang.evals.task import randomness

PREFIX, NEW, TURN = 6400, (200, 600, 1000, 1400), 1150  # tokens; TURN: of one of the six turns
SPREAD = 0, 3, 4  # turns that tell the values; those before the second are dense
TURNS, DENSE_TURNS, FACTS = 6, 2, 2  # FACTS: told in a prefix, each asked for by itself
TOOLS: tuple[Kind, ...] = ("listing", "code", "prose")
KINDS = ("one turn", "turns", "values")


@dataclass(frozen=True)
class Asked:
    """prefix: read densely. turns: token ids of the passes after it. questions: ids of the pass that ends in one, and
    the answer."""

    kind: str
    trial: int
    prefix: list[int]
    turns: list[list[int]]
    questions: list[tuple[list[int], str]]

    @property
    def longest(self) -> int:
        last = max(len(ids) for ids, _ in self.questions)
        return len(self.prefix) + sum(map(len, self.turns)) + last


def ask(kind: str, trial: int, trials: int, tokenizer: Any, filler: Filler) -> Asked:
    rng = randomness("sparse extend", kind, trial)
    places, numbers = rng.sample(PLACES, FACTS), digits(rng, FACTS)
    facts, depth = list(map(code, places, numbers)), (trial + 0.5) / trials / FACTS

    def ids(text: str) -> list[int]:
        return list(tokenizer.encode(text, add_special_tokens=False))

    if kind == "values":
        several = multi_value(rng)
        parts = [sentences(TURN, rng, filler.count) for _ in range(TURNS)]
        for fact, part in zip(several.facts, SPREAD, strict=True):
            parts[part] = hide([fact], parts[part], (trial + 0.5) / trials)
        turns = [ids(f"Report: {' '.join(part)}{NOTE}") for part in parts[:-1]]
        dense = list(itertools.chain(*turns[: SPREAD[1]]))
        return Asked(
            kind, trial, dense, turns[SPREAD[1] :], [(ids(" ".join(parts[-1]) + several.question), several.answer)]
        )
    if kind == "turns":
        parts = [sentences(TURN, rng, filler.count) for _ in range(TURNS)]
        parts[0] = hide(facts, parts[0], depth)
        turns = [ids(f"Report: {' '.join(part)}{NOTE}") for part in parts[:-1]]
        last = f"Report: {' '.join(parts[-1])}\n"
        asked = [(ids(last + question(place)), number) for place, number in zip(places, numbers, strict=True)]
        return Asked(kind, trial, [*turns[0], *turns[1]], turns[DENSE_TURNS:], asked)
    told, asked = hide(facts, sentences(PREFIX, rng, filler.count), depth), []
    for i, (place, number) in enumerate(zip(places, numbers, strict=True), trial * FACTS):
        tool = filler.text(TOOLS[i % len(TOOLS)], NEW[i % len(NEW)], f"{i}")
        before, after = question(place).split("\n")
        if i // len(NEW) % 2:  # asked before the tool result
            new = f"{before}\nTool result:\n{tool}{after}"
        else:
            new = f"Tool result:\n{tool}{before}\n{after}"
        asked.append((ids(new), number))
    return Asked(kind, trial, ids(f"Report: {' '.join(told)}{NOTE}"), [], asked)
