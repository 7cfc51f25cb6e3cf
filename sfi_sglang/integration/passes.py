"""How the passes of one scheduler are planned and run."""

import dataclasses
import logging
from collections.abc import Callable, Sequence
from typing import Any

from sfi_sglang.integration.backends import Backends
from sfi_sglang.integration.choices import Choices
from sfi_sglang.integration.draft_tokens import Checked, DraftTokens
from sfi_sglang.integration.unread import Unread
from sfi_sglang.integration.wide_pass import WidePass
from sfi_sglang.scheduling.row_plan import repairs_of
from sfi_sglang.scheduling.step_planner import StepPlanner

logger = logging.getLogger(__name__)


class Passes:
    """checked: the added rows of the last pass, if it had any. choices: of the pass at hand, if rows follow rules."""

    def __init__(self, planner: StepPlanner, backends: Backends) -> None:
        self.planner, self.backends, self.drafts, self.unread = planner, backends, DraftTokens(), Unread(planner)
        self.checked: Checked | None = None
        self.choices: Choices | None = None

    def plan_batch(self, scheduler: Any, batch: Any, *args: Any, **kwargs: Any) -> None:
        """BEFORE Scheduler.run_batch. Where a pass may give several tokens, SGLang knows the lengths of a decode pass
        only later: there the worker plans it (integration/exact_worker.py)."""
        decode = batch.forward_mode.is_decode()
        if not decode or batch.spec_algorithm.is_none():
            self.plan(batch, batch.seq_lens_cpu.tolist() if decode else ())

    def plan(self, batch: Any, lengths: Sequence[int], blind: bool = False) -> None:
        """An error here may cost the SFI requests of the batch, never the server."""
        try:
            if self.backends.triton is not None:
                self.planner.pass_rows = self.backends.triton.pass_rows
            self.planner.plan(batch, lengths, blind)
        except Exception as error:
            logger.exception("SFI planning failed")
            self.planner.abort(batch, f"sfi: planning failed: {error!r}")

    def forward(self, original: Callable[..., Any], runner: Any, batch: Any, *args: Any, **kwargs: Any) -> Any:
        """AROUND ModelRunner.forward: slow rows repair or verify their segment in rows behind the requests'."""
        self.checked = None
        repairs = repairs_of(self.planner.rows_for(batch.rids, batch.batch_size))
        drafts = self.drafts if any(row.settled for _, row, _ in repairs) else None
        wide = WidePass.of(runner, batch, repairs, drafts) if repairs else None
        if wide is None:
            if repairs:
                self.planner.drop_repairs()
            output = original(runner, batch, *args, **kwargs)
        else:
            output = original(runner, wide.batch, *args, **kwargs)
        if self.choices is not None:
            logits = output.logits_output.next_token_logits
            self.choices.choose(logits, batch.sampling_info, widened=wide is not None)
        if wide is not None:
            self.checked = wide.finish(output, self.choices)
        return output

    def load_eager(self, original: Callable[..., Any], runner: Any, batch: Any, *args: Any, **kwargs: Any) -> Any:
        """AROUND EagerRunner.load_batch: its input buffers have a row a request."""
        if getattr(batch, "sfi_rows_added", 0):
            return dataclasses.replace(batch)
        return original(runner, batch, *args, **kwargs)
