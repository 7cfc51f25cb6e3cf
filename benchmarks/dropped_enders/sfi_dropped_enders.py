"""The other rule for a sentence that ends before `min_gap`: it is no end, and the next one makes the slow step. In
force while the file exists that DROPPED_ENDERS names."""

import os
from collections.abc import Sequence
from pathlib import Path


def register() -> None:
    from sfi_sglang.scheduling.enders import TokenKind
    from sfi_sglang.scheduling.segments import SegmentTracker

    own, switch = SegmentTracker.step, Path(os.environ["DROPPED_ENDERS"])

    def step(tracker: SegmentTracker, outputs: Sequence[int], visible: int) -> bool:
        if not switch.exists():
            return own(tracker, outputs, visible)
        tracker.steps += 1
        due = tracker.steps >= tracker.options.max_segment
        while tracker.read < visible:
            kind = tracker.kind(outputs[tracker.read])
            tracker.read += 1
            if kind == TokenKind.ENDER:
                tracker.armed = True
            elif kind == TokenKind.TEXT and tracker.armed:
                tracker.armed = tracker.steps >= tracker.options.min_gap
                due = due or tracker.armed
        return due

    SegmentTracker.step = step  # type: ignore[assignment, method-assign]
