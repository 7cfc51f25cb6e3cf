"""What a row of a pass does: attend to everything or to a selection, repair or verify earlier tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from sfi_sglang.scheduling.request_state import RequestState


class Step(Enum):
    DENSE = "dense"  # full attention, nothing recorded
    FAST = "fast"  # attention to the visible tokens only
    SLOW = "slow"  # full attention; its evidence refreshes the selection
    CHUNK = "chunk"  # prompt chunk with more to come: keep its last queries


@dataclass(frozen=True)
class RowPlan:
    step: Step
    length: int  # context tokens after this pass
    state: RequestState | None = None
    req_pool_index: int = -1  # of a prompt, its line of SGLang's req_to_token
    repair: "Repair | None" = None  # of a row that attends to everything
    sparse: int = 0  # of a prompt, its first new tokens that see a part of the prefix; the others are dense
    settled: int = 0  # `exact`: those of `length` that stay even if every draft is rejected; else 0
    pending: int = 0  # `exact`: drafts of fast steps when the pass begins
    copied: bool = False  # `exact`: does it verify drafts that were found in the context?

    @property
    def drafts(self) -> bool:
        """Is what it gives only a draft?"""
        return self.settled > 0 and self.step is Step.FAST

    @property
    def unsettled(self) -> int:
        """Drafts in its context."""
        return self.length - self.settled if self.settled else 0

    @property
    def verifies(self) -> int:
        """Drafts."""
        return len(self.repair.tokens) if self.repair is not None and self.settled else 0


@dataclass(frozen=True)
class Repair:
    """Tokens whose K and V a row computes anew in its own pass, now that it attends to everything anyway.

    start: first position; the tokens before it are exact. tokens: ids at the positions from there on. following: id
    after each of them, for all but the last if that is the row's input token. ON_DEVICE: only the device knows.
    """

    start: int
    tokens: tuple[int, ...]
    following: tuple[int, ...]

    @property
    def positions(self) -> range:
        return range(self.start, self.start + len(self.tokens))


ON_DEVICE = -1  # in place of a token's id
DENSE_ROW = RowPlan(Step.DENSE, 0)


def repairs_of(rows: Sequence[RowPlan]) -> list[tuple[int, RowPlan, Repair]]:
    """The rows that repair: index, plan and what. Behind the rows of the requests, theirs follow in this order."""
    return [(i, row, row.repair) for i, row in enumerate(rows) if row.repair is not None]
