"""What a task of the evaluation is: it makes requests whose right answers are known."""

import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from sfi_sglang.client.token_count import Count


@dataclass(frozen=True)
class Item:
    """One request with its right answer.

    prompt: text that the model continues. answer: how the continuation must begin. tokens: most that it may have.
    kind: of the task's. length: tokens of the prompt, about. depth: where in it the answer stands, 0 first, 1 last.
    turns: prompts of the conversation's earlier turns, each the beginning of the next one.
    regex: what the continuation is held to, for answers with a schema.
    """

    kind: str
    length: int
    depth: float
    seed: int
    prompt: str
    answer: str
    tokens: int
    turns: tuple[str, ...] = ()
    regex: str | None = None


class Task(ABC):
    """One task. name: on the command line. about: a line for the reader. kinds: ways to ask, taken in turn."""

    name: str
    about: str
    kinds: Sequence[str]

    @abstractmethod
    def item(self, kind: str, length: int, depth: float, seed: int, count: Count) -> Item:
        """One request. The same arguments give the same request."""

    def items(self, length: int, trials: int, seeds: range, count: Count) -> list[Item]:
        """`trials` of every kind, at depths spread evenly over the prompt. seeds: one a trial."""
        return [
            self.item(kind, length, (i + 0.5) / trials, seed, count)
            for kind in self.kinds
            for i, seed in enumerate(seeds[:trials])
        ]

    def right(self, item: Item, text: str) -> bool:
        return text.strip().startswith(item.answer)


def randomness(task: str, kind: str, seed: int) -> random.Random:
    return random.Random(f"{task}/{kind}/{seed}")
