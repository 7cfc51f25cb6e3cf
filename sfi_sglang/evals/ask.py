"""Ask a server every question in every variant: a question's variants after each other, so that its prompt is prefilled
once, and several questions at a time."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

from sfi_sglang.client.generate import generate
from sfi_sglang.evals.outcomes import Outcome, Outcomes
from sfi_sglang.evals.task import Item, Task
from sfi_sglang.evals.variants import Variant


class Question(Protocol):
    """What an answer is known by, beside its task and variant."""

    @property
    def kind(self) -> str: ...
    @property
    def length(self) -> int: ...
    @property
    def seed(self) -> int: ...


Asked = TypeVar("Asked", bound=Question)


def ask_all(
    task: str,
    questions: Sequence[Asked],
    variants: Sequence[Variant],
    ask: Callable[[Asked, Variant], Outcome],
    outcomes: Outcomes,
    clients: int,
    done: Callable[[], None] = lambda: None,
) -> None:
    """What `outcomes` has already is not asked again. done: called once a question.

    Raises:
        ConnectionError, RuntimeError: as `ask` does; what was answered before is kept.
    """
    known = outcomes.keys()

    def work(question: Asked) -> list[Outcome]:
        key = (task, question.kind, question.length, question.seed)
        return [ask(question, variant) for variant in variants if (*key, variant.label) not in known]

    with ThreadPoolExecutor(clients) as pool:
        try:
            for answers in pool.map(work, questions):
                for outcome in answers:
                    outcomes.add(outcome)
                done()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def answer(url: str, task: Task, item: Item, variant: Variant) -> Outcome:
    """To one item of a task.

    Raises:
        ConnectionError, RuntimeError: as `generate` does.
    """
    sfi = variant.sfi or False
    for turn in item.turns:
        generate(url, turn, 1, sfi)
    reply = generate(url, item.prompt, item.tokens, sfi, regex=item.regex)
    info = reply["meta_info"].get("sfi") or {}
    text = reply["text"]
    return Outcome(
        task.name,
        item.kind,
        item.length,
        item.depth,
        item.seed,
        variant.label,
        task.right(item, text),
        text,
        info.get("fast_steps", 0),
        info.get("slow_steps", 0),
    )
