"""What the rows of one decode pass share: space for evidence, and rows for earlier tokens."""

import math

from sfi_sglang.api.options import EVIDENCE_PAGE, evidence_pages
from sfi_sglang.scheduling.request_state import RequestState

REPAIR_ROWS = 8  # of one pass
REPAIR_TOKENS = 63  # of one row


class PassRoom:
    """What slow rows share in one decode step: space for evidence, and rows for tokens to repair. A refresh that finds
    too little waits for the next step, where it comes first; None: there is no limit. share: rows that one of several
    requests that draft may take."""

    def __init__(self, evidence_tokens: int | None, spare_rows: int | None = None) -> None:
        self.evidence = math.inf if evidence_tokens is None else evidence_tokens
        self.rows = self.share = math.inf if spare_rows is None else max(spare_rows, 0)
        self.repairs = 0

    def share_out(self, requests: int) -> None:
        """So many draft. All that may verify in one pass shall fit into it."""
        if requests and self.rows < math.inf:
            self.share = max(self.rows // min(requests, REPAIR_ROWS), min(self.rows, 1))

    def take_evidence(self, state: RequestState, length: int) -> bool:
        """Reserve what a selection at a context of `length` tokens needs. False: there is too little."""
        need = evidence_pages(state.options.candidates(length)) * EVIDENCE_PAGE
        self.evidence -= need * (enough := need <= self.evidence)
        return enough

    def take_rows(self, wanted: int, whole: bool = False) -> int | None:
        """Reserve rows for the tokens of one request. Returns how many it gets, None for none where it wants them
        `whole` and there are too few."""
        count = 0 if self.repairs == REPAIR_ROWS else int(min(wanted, self.rows))
        if whole and count < wanted:
            return None
        self.rows -= count
        self.repairs += count > 0
        return count

    def take(self, state: RequestState, length: int) -> int | None:
        """Reserve what a refresh at a context of `length` tokens needs. Returns how many tokens it may repair, None if
        it has to wait."""
        need = evidence_pages(state.options.candidates(length)) * EVIDENCE_PAGE
        wanted = min(length - 1 - state.exact, REPAIR_TOKENS) if state.options.repair else 0
        if need > self.evidence or (wanted > self.rows and self.repairs) or self.repairs == REPAIR_ROWS:
            return None
        self.evidence -= need
        return self.take_rows(wanted)
