"""The answer to one item of a task, by `/generate`."""

from sfi_sglang.client.generate import generate
from sfi_sglang.evals.outcomes import Outcome
from sfi_sglang.evals.task import Item, Task
from sfi_sglang.evals.variants import Variant


def answer(url: str, task: Task, item: Item, variant: Variant) -> Outcome:
    """To one item of a task.

    Raises:
        ConnectionError, RuntimeError: as `generate` does.
    """
    sfi = variant.sfi or False
    key = variant.label if "carry" in (variant.sfi or {}) else None  # it must not inherit another variant's selection
    for turn in item.turns:
        generate(url, turn, 1, sfi, extra_key=key)
    reply = generate(url, item.prompt, item.tokens, sfi, extra_key=key, regex=item.regex)
    report = reply["meta_info"].get("sfi") or {}
    return Outcome(
        task=task.name,
        kind=item.kind,
        length=item.length,
        seed=item.seed,
        variant=variant.label,
        depth=item.depth,
        right=[task.right(item, reply["text"])],
        text=reply["text"],
        fast_steps=report.get("fast_steps", 0),
        slow_steps=report.get("slow_steps", 0),
    )
