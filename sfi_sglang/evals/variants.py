"""Ways to decode that the evaluation compares: dense, SFI as served, and controls of equal budget."""

from dataclasses import dataclass
from typing import Any

DENSE, WINDOW, TRADED = "dense", "sink+recent", "recent for budget"
RECENT, MIN_GAP = 256, 16  # defaults of a request
MORE_RECENT = 1024
SEGMENTS = (4, 8, 16, 32, 64, 128)


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
        if name.isdecimal():
            made.append(Variant(name, {"budget": int(name)}, "SFI with this budget"))
        else:
            changes, about = CHANGES[name]
            made.append(Variant(name, {"budget": budget, **changes, **of_budget(name, budget)}, about))
    return made


def of_budget(name: str, budget: int) -> dict[str, Any]:
    """What a variant sets by the budget: it sees as many tokens as SFI with `budget` and the default recent ones."""
    if name == WINDOW:
        return {"recent": RECENT + budget}
    if name == TRADED:
        return {"budget": max(budget + RECENT - MORE_RECENT, 1)}
    return {}


def of_steps(most: int) -> tuple[dict[str, Any], str]:
    changes = {"policy": "periodic", "min_gap": min(most, MIN_GAP), "max_segment": most}
    return changes, f"refreshed after every {most} steps"


CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "sfi": ({}, "as served: refreshed near sentence ends, whole spans, repaired"),
    WINDOW: ({"policy": "never"}, "the same number of tokens, but the last ones: must fail, or the task is too weak"),
    "periodic": ({"policy": "periodic"}, "refreshed after max_segment steps, wherever the text stands"),
    "random": ({"policy": "random"}, "refreshed after min_gap to max_segment steps, drawn by lot"),
    "structural": ({"policy": "structural"}, "refreshed at the ends of JSON and code structures too"),
    "drift": ({"policy": "drift", "min_gap": 4}, "refreshed where attention meets the end of a span too"),
    "unrepaired": ({"repair": False}, "K and V of fast steps stay approximate"),
    "plain top-k": ({"selector": "plain"}, "single tokens of the highest evidence, no spans"),
    "paper": ({"selector": "paper", "queries": 16}, "the paper's stages as implemented here"),
    "pages": ({"fast": "pages"}, "pages of 16 tokens chosen anew at every step by the bounds of their keys (Quest)"),
    "oracle": ({"fast": "oracle"}, "the tokens that get most attention, chosen anew at every step: the upper bound"),
    "span 8": ({"selector": "span8"}, "a chosen token brings the 8 after it"),
    "span 16": ({"selector": "span16"}, "a chosen token brings the 16 after it"),
    "span 64": ({"selector": "span64"}, "a chosen token brings the 64 after it"),
    "W 1": ({"queries": 1}, "the prompt's last token alone chooses first"),
    "W 16": ({"queries": 16}, "the prompt's last 16 tokens choose first"),
    "recent 1024": ({"recent": MORE_RECENT}, "more recent tokens, the same budget"),
    TRADED: ({"recent": MORE_RECENT}, "1024 recent tokens and so much less budget: as many tokens in sight"),
    "merge": ({"carry": "merge"}, "what the last turn selected counts for more"),
    "inherit": ({"carry": "inherit"}, "only what the last turn selected, and new tokens, can be selected first"),
    **{f"every {most}": of_steps(most) for most in SEGMENTS},
}
SETS = {
    "plain": ("sfi", WINDOW),
    "controls": ("sfi", WINDOW, "periodic", "random", "structural", "drift", "unrepaired", "pages", "oracle"),
    "selectors": ("sfi", "plain top-k", "paper", "span 8", "span 16", "span 64", "W 1", "W 16"),
    "recent": ("sfi", WINDOW, "recent 1024", TRADED),
    "carry": ("sfi", "inherit", "merge"),
    "budgets": ("64", "128", "256", "512", "1024", "2048", "4096"),
    "segments": tuple(f"every {most}" for most in SEGMENTS),
}
