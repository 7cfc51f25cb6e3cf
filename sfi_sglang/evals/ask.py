"""Ask a server every item of a task in every variant: an item's variants after each other, so that its prompt is
prefilled once, and several items at a time."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from sfi_sglang.client.generate import generate
from sfi_sglang.evals.outcomes import Outcome, Outcomes
from sfi_sglang.evals.task import Item, Task
from sfi_sglang.evals.variants import Variant

Work = TypeVar("Work")
Answer = TypeVar("Answer")


def ask_all(
    url: str,
    task: Task,
    items: Iterable[Item],
    variants: Sequence[Variant],
    outcomes: Outcomes,
    clients: int,
    done: Callable[[], None] = lambda: None,
) -> None:
    """What `outcomes` has already is not asked again. done: called once an item.

    Raises:
        ConnectionError, RuntimeError: as `generate` does; what was answered before is kept.
    """
    known = outcomes.keys()

    def work(item: Item) -> list[Outcome]:
        missing = [v for v in variants if (task.name, item.kind, item.length, item.seed, v.label) not in known]
        return [ask(url, task, item, variant) for variant in missing]

    for answers in at_once(work, items, clients):
        for outcome in answers:
            outcomes.add(outcome)
        done()


def at_once(work: Callable[[Work], Answer], items: Iterable[Work], clients: int) -> Iterator[Answer]:
    """`work` of every item, in their order, `clients` at a time. Where one fails, those not begun are left."""
    with ThreadPoolExecutor(clients) as pool:
        try:
            yield from pool.map(work, items)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def ask(url: str, task: Task, item: Item, variant: Variant) -> Outcome:
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
