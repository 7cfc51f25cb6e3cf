"""The decode pass after a verification is launched before the host knows what was accepted: the device alone knows how
long the requests are, and the host plans for the longest that they may be. There they draft."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from sfi_sglang.integration.choices import follows_rules
from sfi_sglang.scheduling.drafting import MOST_DRAFTS
from sfi_sglang.scheduling.exact_steps import can_draft
from sfi_sglang.scheduling.row_plan import RowPlan
from sfi_sglang.scheduling.step_planner import StepPlanner


class Unread:
    """The last decode pass, while the scheduler has not read its result.

    longest: by request, the tokens that it may have committed. waits: does the next pass wait for it? blind: was the
    last batch resolved without waiting?
    """

    def __init__(self, planner: StepPlanner) -> None:
        self.planner = planner
        self.longest: dict[str, int] = {}
        self.waits, self.blind = True, False

    def launched(self, reqs: Sequence[Any], committed: Sequence[int], rows: Sequence[RowPlan]) -> None:
        """committed: tokens before the pass, which the host knows."""
        gains = [0 if row.drafts else 1 + row.verifies for row in rows]
        self.longest = {req.rid: n + gain for req, n, gain in zip(reqs, committed, gains, strict=True)}
        verifies = any(row.verifies for row in rows)
        # After copies that passed there may be more, for which the host must know the text.
        self.waits = not verifies or self.blind or any(row.copied for row in rows)

    def read(self) -> None:
        self.longest, self.waits = {}, True

    def bounds(self, batch: Any) -> list[int] | None:
        """Committed tokens of each request of a decode batch, at most. None: better wait for the host to know."""
        reqs = batch.reqs
        if self.waits or not self.planner.blind_passes or any(req.rid not in self.longest for req in reqs):
            return None
        bounds = [self.longest[req.rid] for req in reqs]
        states = [getattr(req, "sfi", None) for req in reqs]
        for req, state, bound in zip(reqs, states, bounds, strict=True):
            if state is not None and state.options.exact:
                left = req.sampling_params.max_new_tokens - (bound + 1 - state.prompt_tokens)
                drafts = can_draft(state, bound + 1) and state.drafting.pending < MOST_DRAFTS - 1
                if left < 2 or not drafts or follows_rules(req):
                    return None
        return bounds

    def resolve(self, futures: Any, original: Callable[..., None], batch: Any, *args: Any, **kwargs: Any) -> None:
        """In place of FutureMap.resolve_seq_lens_cpu, which waits until the host knows the lengths."""
        known = batch.spec_info is None or batch.spec_info.future_indices is None
        bounds = None if known else self.bounds(batch)
        self.blind = bounds is not None
        if bounds is None:
            original(batch, *args, **kwargs)
            return
        wanted, futures.needs_cpu_seq_lens = futures.needs_cpu_seq_lens, False
        try:
            original(batch, *args, **kwargs)
        finally:
            futures.needs_cpu_seq_lens = wanted
        batch.seq_lens_cpu, batch.seq_lens_sum = torch.tensor(bounds), sum(bounds)
