"""Ways to decode that the evaluation compares: dense, SFI as served, and controls of equal budget."""

from dataclasses import dataclass
from typing import Any

DENSE = "dense"


@dataclass(frozen=True)
class Variant:
    """label: in tables. sfi: the request's value (None: dense). about: what the comparison shows."""

    label: str
    sfi: dict[str, Any] | None
    about: str


def variants(budget: int, chosen: str = "plain") -> list[Variant]:
    """Those of a set (SETS), dense first. budget: selected tokens per KV head; recent tokens come on top."""
    made = [Variant(DENSE, None, "full attention at every step")]
    for name in SETS[chosen]:
        changes, about = CHANGES[name]
        made.append(Variant(name, {"budget": budget, **changes(budget)}, about))
    return made


CHANGES: dict[str, Any] = {
    "sfi": (lambda k: {}, "as served: refreshed near sentence ends, whole spans, repaired"),
    "sink+recent": (
        lambda k: {"policy": "never", "recent": 256 + k},
        "the same number of tokens, but the last ones: must fail, or the task is too weak",
    ),
    "periodic": (lambda k: {"policy": "periodic"}, "refreshed after max_segment steps, wherever the text stands"),
    "structural": (lambda k: {"policy": "structural"}, "refreshed at the ends of JSON and code structures too"),
    "unrepaired": (lambda k: {"repair": False}, "K and V of fast steps stay approximate"),
    "plain top-k": (lambda k: {"selector": "plain"}, "single tokens of the highest evidence, no spans"),
    "paper": (lambda k: {"selector": "paper"}, "the paper's stages as implemented here"),
    "half": (lambda k: {"budget": max(1, k // 2)}, "half of the budget"),
    "double": (lambda k: {"budget": 2 * k}, "twice the budget"),
}
SETS = {
    "plain": ("sfi", "sink+recent"),
    "controls": ("sfi", "sink+recent", "periodic", "structural", "unrepaired", "plain top-k", "paper"),
    "budgets": ("half", "sfi", "double", "sink+recent"),
}
