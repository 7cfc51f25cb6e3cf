"""A task with its questions and variants, ready to be asked."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from sfi_sglang.evals.outcomes import Key, Outcome
from sfi_sglang.evals.variants import Variant


class Question(Protocol):
    """What an answer is known by, beside its task and variant."""

    @property
    def kind(self) -> str: ...
    @property
    def length(self) -> int | None: ...
    @property
    def seed(self) -> int: ...


@dataclass(frozen=True)
class Work:
    """A question, and the variants that have not answered it."""

    question: Any
    variants: Sequence[Variant]

    @property
    def size(self) -> int:
        """What its time grows with: prompt tokens over all variants, where the length is known."""
        return (self.question.length or 1) * len(self.variants)


@dataclass(frozen=True)
class Job:
    """ask: one question of one variant, raises ConnectionError or RuntimeError. settings: what the answers depend on
    beside the questions' own keys. clients: questions at once."""

    task: str
    questions: Sequence[Question]
    variants: Sequence[Variant]
    ask: Callable[[Any, Variant], Outcome]
    clients: int = 1
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def identity(self) -> dict[str, Any]:
        """The settings with the variants' requests by their labels, as an answers' file has them."""
        return {**self.settings, "variants": {variant.label: variant.sfi for variant in self.variants}}

    def left(self, known: Collection[Key]) -> list[Work]:
        """What is not among the `known` answers."""
        found = []
        for question in self.questions:
            key = (self.task, question.kind, question.length, question.seed)
            variants = [variant for variant in self.variants if (*key, variant.label) not in known]
            found += [Work(question, variants)] if variants else []
        return found

    def answer(self, work: Work) -> list[Outcome]:
        """The question's variants after each other, so that its prompt is prefilled once."""
        return [self.ask(work.question, variant) for variant in work.variants]
