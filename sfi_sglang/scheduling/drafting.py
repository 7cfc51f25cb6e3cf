"""How many tokens an `exact` request drafts before a dense pass verifies them, and what came of it."""

from dataclasses import dataclass, field
from itertools import accumulate

from sfi_sglang.scheduling.copying import Copying

MOST_DRAFTS = 15  # of one verification
VERIFICATION = 4  # passes that draft which take as long as one that verifies: 3 to 7 on an H200, by the contexts
MEMORY = 0.9  # weight that a verification leaves to those before it


@dataclass
class Drafting:
    """
    pending: drafts that no pass has verified, as the last launched pass leaves them.
    drafted, accepted: of verified drafts.
    passed, failed: of those of fast steps, younger verifications weighing more; a start of 9 in 10.
    verifying: was the last launched pass a verification? Then the host waits for it anyway, and may look for copies.
    blind: was the last launched pass one that knew no text, after a verification?
    offer: how many copied drafts lie ready for the pass at hand.
    copied: accepted drafts that were copies.
    unrefreshed: verifications since the last one that also selected anew: a pass has room for some only.
    """

    pending: int = 0
    drafted: int = 0
    accepted: int = 0
    passed: float = 9.0
    failed: float = 1.0
    verifying: bool = False
    blind: bool = False
    offer: int = 0
    copied: int = 0
    unrefreshed: int = 0
    copying: Copying = field(default_factory=Copying)

    def restart(self) -> None:
        """Whatever is not verified is gone."""
        self.pending, self.offer, self.verifying, self.blind = 0, 0, False, False

    def length(self) -> int:
        """Of the next draft, tokens: as many as give most tokens in a time, that of the verification included."""
        chance = self.passed / (self.passed + self.failed)
        given = accumulate(chance**n for n in range(MOST_DRAFTS + 1))  # expected tokens with n drafts, and one more
        pace = [tokens / (n + VERIFICATION) for n, tokens in enumerate(given)]
        return max(range(1, MOST_DRAFTS + 1), key=pace.__getitem__)

    def verified(self, drafts: int, accepted: int, copies: bool) -> None:
        """What follows a rejected draft says nothing of how likely drafts are to pass."""
        self.drafted += drafts
        self.accepted += accepted
        if copies:
            self.copied += accepted
            self.copying.verified(accepted)
            return
        self.passed = self.passed * MEMORY + accepted
        self.failed = self.failed * MEMORY + (accepted < drafts)
