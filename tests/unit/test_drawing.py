"""Draws that a draft and its verification share: their distribution, and how often they come out alike."""

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sglang.srt.layers.sampler import top_k_top_p_min_p_sampling_from_probs_torch

from sfi_sglang.integration.drawing import Drawing, gumbel

DRAWS, WORDS, ALL = 40_000, 24, 1 << 30
LOGITS = torch.randn(WORDS, generator=torch.Generator().manual_seed(5)) * 2
FILTERS = {
    "none": {},
    "temperature": {"temperature": 0.6},
    "top_k": {"top_k": 5},
    "top_p": {"top_p": 0.8},
    "min_p": {"min_p": 0.2},
    "all": {"temperature": 1.3, "top_k": 7, "top_p": 0.9, "min_p": 0.1},
}


def params(**given_) -> SimpleNamespace:
    return SimpleNamespace(**{"temperature": 1.0, "top_p": 1.0, "min_p": 0.0, "top_k": ALL, **given_})


def drawn(logits: torch.Tensor, seeds, positions, **given_) -> torch.Tensor:
    rows = len(seeds)
    return Drawing.of([params(**given_)] * rows, seeds, positions, "cpu").draw(logits.expand(rows, -1))


@pytest.mark.parametrize("name", FILTERS)
def test_draws_follow_the_distribution_that_sglang_draws_from(name):
    how = params(**FILTERS[name])
    probs = torch.softmax(LOGITS.double() / how.temperature, -1)[None]
    each = {key: torch.tensor([value]) for key, value in vars(how).items()}
    _, kept, ids, _ = top_k_top_p_min_p_sampling_from_probs_torch(
        probs, each["top_k"], each["top_p"], each["min_p"], how.min_p > 0, None, None, return_filtered_probs=True
    )
    expected = torch.zeros(WORDS, dtype=torch.float64).scatter(0, ids[0].long(), kept[0] / kept.sum())
    found = torch.bincount(drawn(LOGITS, range(DRAWS), [9] * DRAWS, **FILTERS[name]), minlength=WORDS) / DRAWS
    assert not found[expected == 0].any()
    assert torch.allclose(found.double(), expected, atol=4 * (0.25 / DRAWS) ** 0.5)


@given(st.integers(-(2**63), 2**63 - 1), st.integers(0, 1 << 20), st.integers(1, 8))
def test_a_draw_hangs_on_nothing_but_seed_position_and_distribution(seed, position, others):
    alone = drawn(LOGITS, [seed], [position], top_p=0.9)
    among = drawn(LOGITS, [*range(others), seed], [*range(others), position], top_p=0.9)
    assert among[-1] == alone[0]


def test_noise_is_gumbel_and_differs_by_each_of_its_three_causes():
    seeds, positions = torch.arange(300).repeat_interleave(20), torch.arange(20).repeat(300)
    noise = gumbel(seeds, positions, torch.arange(50)[None]).reshape(300, 20, 50)
    assert noise.isfinite().all() and abs(noise.mean() - 0.5772) < 0.01 and abs(noise.std() - 1.2825) < 0.01
    for dim in range(3):
        left, right = noise.narrow(dim, 0, 19).flatten(), noise.narrow(dim, 1, 19).flatten()
        assert abs(torch.corrcoef(torch.stack([left, right]))[0, 1]) < 0.02


@pytest.mark.parametrize("noise", [0.05, 0.3, 1.0])
def test_drafts_pass_at_least_as_often_as_the_bound_says(noise):
    other = LOGITS + noise * torch.randn(WORDS, generator=torch.Generator().manual_seed(6))
    distance = (torch.softmax(LOGITS, -1) - torch.softmax(other, -1)).abs().sum() / 2
    one, two = (drawn(logits, range(DRAWS), [3] * DRAWS) for logits in (LOGITS, other))
    passed = (one == two).double().mean()
    assert (1 - distance) / (1 + distance) - 0.01 < passed < 1 - distance + 0.01
