"""What the decode benchmarks make of the times of a batch's tokens, and of a GPU's trace."""

import numpy as np
import pytest

from benchmarks.decode_gpu import step_times, token_times
from benchmarks.profile_gpu import FEWEST, analyse, family


def test_only_steps_that_all_requests_share_count_and_whole_periods():
    early = np.cumsum([0.004] * 10 + [0.1] + [0.004] * 117)  # waits while the other's prompt is taken in
    late = early[11:] + 0.001
    steps = step_times([early, late], 40)
    assert len(steps) == 80
    assert steps == pytest.approx([4.0] * 80)


def test_too_few_shared_steps_are_refused():
    with pytest.raises(ValueError, match="share fewer than 40 steps"):
        step_times([np.arange(30.0), np.arange(40.0)], 40)


def test_tokens_in_groups_count_by_the_time_that_all_requests_share():
    early = np.repeat(np.arange(40) * 0.030, 6)  # 5 ms a token
    late = np.repeat(0.1 + np.arange(40) * 0.030, 3)
    assert token_times([early, late]) == pytest.approx([5.0, 10.0], rel=0.05)


def test_a_profile_counts_each_microsecond_of_a_step_once():
    """Five replays of a graph, 1000 us apart: FEWEST kernels of 10 us, each let in 2 us before its predecessor ends,
    alternately attention and a matrix product; after each replay a small kernel that is no part of it."""
    events = []
    for step in range(5):
        names = ["_attend", "void cutlass::gemm<float>(int)"] * (FEWEST // 2)
        events += [kernel(1000 * step + 8 * i, 10, name, step) for i, name in enumerate(names)]
        events.append(kernel(1000 * step + 900, 10, "sample", 100 + step))
    profile = analyse({"traceEvents": [{"cat": "cpu_op", "name": "x"}, *events]}, 1, 8, "dense")
    assert profile.steps == 3 and profile.period == 1000
    assert profile.busy == profile.graph == 8 * FEWEST + 2
    assert profile.kernels["_attend"] == pytest.approx((FEWEST / 2, 4 * FEWEST + 2))
    assert profile.kernels["matrix products"] == pytest.approx((FEWEST / 2, 4 * FEWEST))


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("void flashinfer::BatchPrefillWithPagedKVCacheKernel<flashinfer::Params>()", "dense attention (FlashInfer)"),
        ("void flashinfer::norm::RMSNormKernel<8u, __nv_bfloat16>(__nv_bfloat16*)", "norms"),
        ("nvjet_tst_128x64_64x4_1x2_h_bz_splitK_TNT", "matrix products"),
        ("void (anonymous namespace)::indexed<float>(int)", "indexed"),
        ("_merge_logits", "_merge_logits"),
    ],
)
def test_kernels_are_named_after_what_they_are_for(name, label):
    assert family(name) == label


def kernel(start, duration, name, graph):
    return {"cat": "kernel", "ts": start, "dur": duration, "name": name, "args": {"correlation": graph}}
