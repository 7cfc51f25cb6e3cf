"""Ways to decode that the evaluation compares: dense, SFI as served, and controls of equal budget."""

from dataclasses import dataclass
from typing import Any, NamedTuple

DENSE, WINDOW, TRADED = "dense", "sink+recent", "budget for recent"
RECENT, MIN_GAP = 1024, 16  # defaults of a request
FEW_RECENT = 256
SEGMENTS = (4, 8, 16, 32, 64, 128)


class Sight(NamedTuple):
    """What fast steps see. budget: selected tokens per KV head. recent: last tokens, on top."""

    budget: int
    recent: int = RECENT


@dataclass(frozen=True)
class Variant:
    """label: in tables. sfi: the request's value (None: dense). about: what the comparison shows."""

    label: str
    sfi: dict[str, Any] | None
    about: str

    @property
    def extends_sparsely(self) -> bool:
        return (self.sfi or {}).get("extend") == "sparse"


def variants(sight: Sight, chosen: str = "plain") -> list[Variant]:
    """Those of a set (SETS), dense first. sight: of SFI as served."""
    made = [Variant(DENSE, None, "full attention at every step")]
    for name in SETS[chosen]:
        if name.isdecimal():
            made.append(Variant(name, {**sight._asdict(), "budget": int(name)}, "SFI with this budget"))
        else:
            changes, about = CHANGES[name]
            made.append(Variant(name, {**sight._asdict(), **changes, **as_many(name, sight)}, about))
    return made


def as_many(name: str, sight: Sight) -> dict[str, int]:
    """What a variant sets in order to see as many tokens as SFI with `sight`."""
    if name == WINDOW:
        return {"recent": sight.recent + sight.budget}
    if name == TRADED:
        return {"budget": max(sight.budget + sight.recent - FEW_RECENT, 1)}
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
    "recent 256": ({"recent": FEW_RECENT}, "fewer recent tokens, the same budget"),
    TRADED: ({"recent": FEW_RECENT}, "256 recent tokens and so much more budget: as many tokens in sight"),
    "merge": ({"carry": "merge"}, "what the last turn selected counts for more"),
    "sparse extend": ({"extend": "sparse"}, "and new tokens of a prompt see a part of what is cached"),
    "inherit": ({"carry": "inherit"}, "only what the last turn selected, and new tokens, can be selected first"),
    **{f"every {most}": of_steps(most) for most in SEGMENTS},
}
SETS = {
    "plain": ("sfi", WINDOW),
    "controls": ("sfi", WINDOW, "periodic", "random", "structural", "drift", "unrepaired", "pages", "oracle"),
    "selectors": ("sfi", "plain top-k", "paper", "span 8", "span 16", "span 64", "W 1", "W 16"),
    "recent": ("sfi", WINDOW, "recent 256", TRADED),
    "carry": ("sfi", "inherit", "merge"),
    "extend": ("sfi", "sparse extend"),
    "budgets": ("64", "128", "256", "512", "1024", "2048", "4096"),
    "segments": tuple(f"every {most}" for most in SEGMENTS),
}
