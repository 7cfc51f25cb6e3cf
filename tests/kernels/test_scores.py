"""The kernels' logits from dot products, of any size."""

import pytest
import torch
import triton
import triton.language as tl

from sfi_sglang.kernels.scores import LOG2E, log2_logits, logit_arguments
from sfi_sglang.selection.scoring import Scoring
from tests.kernels.made import DEVICE

pytestmark = pytest.mark.interpreted


@triton.jit
def _logits(dots, out, scale, cap, CAPPED: tl.constexpr):
    i = tl.arange(0, 256)
    tl.store(out + i, log2_logits(tl.load(dots + i), scale, cap, CAPPED))


@pytest.mark.parametrize("cap", [0.0, 0.5, 30.0, 50.0])
@pytest.mark.parametrize("k_scale", [1.0, 0.03])
@pytest.mark.filterwarnings("error:invalid value", "ignore:overflow")
def test_logits(cap, k_scale):
    small = torch.cat([torch.logspace(-6, 6, 127), torch.tensor([0.0])])
    dots = torch.cat([small, -small]).to(DEVICE)
    out, scoring = torch.empty_like(dots), Scoring(0.2, cap=cap, k_scale=k_scale)
    _logits[(1,)](dots, out, **logit_arguments(scoring))
    exact = dots.double() * 0.2 * k_scale
    exact = cap * torch.tanh(exact / cap) if cap else exact
    torch.testing.assert_close(out.double() / LOG2E.value, exact, rtol=1e-5, atol=1e-6 * cap)
