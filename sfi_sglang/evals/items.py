"""The answer to one item of a task, by `/generate`.

Sparse extend acts on new tokens behind a long cached prefix. So where it is asked for, a prompt comes in parts, each
the beginning of the next, as an agent's context grows.
"""

from sfi_sglang.client.generate import generate
from sfi_sglang.evals.outcomes import Outcome
from sfi_sglang.evals.task import Item, Task
from sfi_sglang.evals.variants import Variant

PARTS = 4


def answer(url: str, task: Task, item: Item, variant: Variant) -> Outcome:
    """To one item of a task.

    Raises:
        ConnectionError, RuntimeError: as `generate` does; sparse extend was asked for and left nothing out.
    """
    sfi = variant.sfi or False
    key = variant.label if "carry" in (variant.sfi or {}) else None  # it must not inherit another variant's selection
    for turn in item.turns or (beginnings(item.prompt) if variant.extends_sparsely else ()):
        generate(url, turn, 1, sfi, extra_key=key)
    reply = generate(url, item.prompt, item.tokens, sfi, extra_key=key, regex=item.regex)
    report = reply["meta_info"].get("sfi") or {}
    if variant.extends_sparsely and not report["sparse_extend_tokens"]:
        about = f"sparse extend left nothing out of {report['prompt_tokens']} tokens"
        raise RuntimeError(f"{about}: it takes longer prompts, or less budget and recent tokens")
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


def beginnings(prompt: str) -> list[str]:
    """All parts but the whole, each up to a space."""
    ends = (prompt.rfind(" ", 0, len(prompt) * part // PARTS) for part in range(1, PARTS))
    return [prompt[:end] for end in ends if end > 0]
