"""What the decode benchmark makes of the times of a batch's tokens."""

import numpy as np
import pytest

from benchmarks.decode_gpu import step_times


def test_only_steps_that_all_requests_share_count_and_whole_periods():
    early = np.cumsum([0.004] * 10 + [0.1] + [0.004] * 117)  # waits while the other's prompt is taken in
    late = early[11:] + 0.001
    steps = step_times([early, late], 40)
    assert len(steps) == 80
    assert steps == pytest.approx([4.0] * 80)


def test_too_few_shared_steps_are_refused():
    with pytest.raises(ValueError, match="share fewer than 40 steps"):
        step_times([np.arange(30.0), np.arange(40.0)], 40)
