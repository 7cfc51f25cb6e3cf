"""Coverage: how much of the attention at slow steps falls on what fast steps would have seen, in each layer and head.

SFI continues real text; its report tells the share that the old selection, sink and recent tokens caught, a mean over
the slow steps. A head of low coverage is one whose attention fast steps do not follow.
"""

from sfi_sglang.client.generate import generate
from sfi_sglang.evals import texts
from sfi_sglang.evals.agreement import detailed
from sfi_sglang.evals.outcomes import Outcome
from sfi_sglang.evals.variants import Variant

TASK = "coverage"


def answer(url: str, text: texts.Text, variant: Variant) -> Outcome:
    """
    Raises:
        ConnectionError, RuntimeError: as `generate` does.
    """
    report = generate(url, text.ids, texts.TOKENS, detailed(variant), ignore_eos=True)["meta_info"].get("sfi") or {}
    by_head = report.get("coverage_by_head")
    return Outcome(
        task=TASK,
        kind=text.kind,
        length=text.length,
        seed=text.seed,
        variant=variant.label,
        fast_steps=report.get("fast_steps", 0),
        slow_steps=report.get("slow_steps", 0),
        coverage=by_head and [[round(head, 4) for head in layer] for layer in by_head],
    )


def selects(variant: Variant) -> bool:
    """Does it keep a selection from step to step? Others have no coverage."""
    sfi = variant.sfi
    return sfi is not None and sfi.get("policy") != "never" and sfi.get("fast", "memory") == "memory"
