"""Every Selector stage against a float64 reference written as loops."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sfi_sglang.api.options import SelectorOptions
from sfi_sglang.selection import selector, stages
from sfi_sglang.selection.scoring import Scoring
from sfi_sglang.selection.stages import STAGES, Evidence

EVIDENCE = Evidence(rows=1)
SHAPES = st.tuples(st.integers(1, 4), st.integers(1, 70), st.integers(0, 10_000))


def log_scores(heads: int, n: int, seed: int, rows: int | None = None) -> torch.Tensor:
    shape = (heads, n) if rows is None else (heads, rows, n)
    generator = torch.Generator().manual_seed(seed)
    return (3 * torch.randn(shape, generator=generator)).log_softmax(-1)


def log_softmax64(x: np.ndarray, axis: int = -1) -> np.ndarray:
    shifted = x - x.max(axis, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis, keepdims=True))


@given(SHAPES, st.integers(1, 6), st.booleans())
def test_power_mean(shape, rows, agreement):
    log_p = log_scores(*shape, rows=rows)
    alpha = 0.5 if agreement else 1.0
    mean = np.exp(alpha * log_p.double().numpy()).mean(1) ** (1 / alpha)
    expected = mean / mean.sum(-1, keepdims=True)
    merged = selector.power_mean(log_p, SelectorOptions(agreement=agreement)).exp().numpy()
    np.testing.assert_allclose(merged, expected, rtol=1e-4, atol=1e-7)


@given(st.integers(1, 500))
def test_prior(n):
    x = np.arange(n) / max(n - 1, 1)
    shape = -(-math.log(0.6) / 0.9) * x**1.8 + 0.4 * np.log(np.maximum(1 - x, 1e-6))
    np.testing.assert_allclose(stages.prior(n).double().numpy(), log_softmax64(0.7 * shape), rtol=1e-4, atol=1e-4)


@given(SHAPES, st.sampled_from([0.25, 0.35]))
def test_fuse(shape, clamp):
    log_f, log_r = log_scores(*shape), stages.prior(shape[1])
    f, r = np.exp(log_f.double().numpy()), np.exp(log_r.double().numpy())
    weight = ((f * f).sum(-1) - (f * r).sum(-1)) / np.maximum(((f - r) ** 2).sum(-1), 1e-12)
    weight = np.clip(weight, 0, clamp)[:, None]
    mixed = stages.fuse(log_f, log_r, clamp).exp().numpy()
    if shape[1] > 1:  # with one candidate f == r and the weight is arbitrary
        np.testing.assert_allclose(mixed, (1 - weight) * f + weight * r, rtol=1e-3, atol=1e-6)
    assert mixed.sum(-1) == pytest.approx(np.ones(shape[0]), abs=1e-4)


def windowed(scores: np.ndarray, before: int, after: int) -> np.ndarray:
    n = scores.shape[-1]
    return np.stack([scores[:, max(0, j - before) : min(n, j + after + 1)].max(-1) for j in range(n)], -1)


@given(SHAPES)
def test_suppress(shape):
    scores = log_scores(*shape)
    s = scores.double().numpy()
    expected = s - (windowed(s, 16, 16) - s)
    np.testing.assert_allclose(stages.suppress(scores, EVIDENCE).numpy(), expected, rtol=1e-5, atol=1e-5)


@given(SHAPES)
def test_exclude(shape):
    scores = log_scores(*shape)
    s = scores.double().numpy()
    expected = s if shape[0] <= 2 else s + 0.85 * log_softmax64(s / 2, 0)
    np.testing.assert_allclose(stages.exclude(scores, EVIDENCE).numpy(), expected, rtol=1e-4, atol=1e-4)


@given(SHAPES)
def test_span_brings_the_tokens_after_and_before(shape):
    scores = log_scores(*shape)
    for width in (8, 16, 32, 64):
        found = stages.span(scores, replace(EVIDENCE, width=width)).numpy()
        assert np.array_equal(found, windowed(scores.numpy(), before=width, after=2))


def test_span_keeps_a_whole_copy_together():
    """The reason for the stage: one hot token must bring the string that follows it."""
    scores = torch.full((1, 200), -20.0)
    scores[0, 100] = 0.0
    kept = selector.select(scores.log_softmax(-1), 1, 35, SelectorOptions())
    assert kept.tolist() == [list(range(98, 133))]


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=60), st.integers(0, 70))
def test_top_positions_prefers_the_earlier_of_equals(values, k):
    kept = selector.top_positions(torch.tensor([values], dtype=torch.float32), k)[0].tolist()
    ranked = sorted(range(len(values)), key=lambda i: (-values[i], i))[:k]
    assert kept == sorted(ranked)


def test_top_positions_keeps_leading_axes():
    scores = torch.randn(2, 3, 50)
    kept = selector.top_positions(scores, 7)
    assert kept.shape == (2, 3, 7)
    assert (kept.diff(dim=-1) > 0).all()
    assert torch.equal(kept[1, 2], selector.top_positions(scores[1, 2], 7))


@settings(max_examples=50)
@given(
    shape=SHAPES,
    k=st.integers(1, 80),
    rows=st.integers(1, 48),
    options=st.builds(SelectorOptions, prior=st.booleans(), nms=st.booleans(), exclusion=st.booleans()),
)
def test_select_returns_k_distinct_candidates_and_repeats(shape, k, rows, options):
    scores = log_scores(*shape)
    kept = selector.select(scores, rows, k, options)
    assert kept.shape == (shape[0], min(k, shape[1]))
    assert torch.equal(kept, selector.select(scores, rows, k, options))
    assert ((kept >= 0) & (kept < shape[1])).all()


def test_attention_logits_match_float64():
    q, k = torch.randn(3, 6, 64, dtype=torch.bfloat16), torch.randn(3, 90, 64, dtype=torch.bfloat16)
    expected = np.einsum("hrd,hnd->hrn", q.double().numpy(), k.double().numpy()) * 0.125
    np.testing.assert_allclose(selector.attention_logits(q, k, Scoring(0.125)).numpy(), expected, rtol=1e-4, atol=1e-4)


def test_every_stage_is_an_option_and_a_bit_of_its_own():
    assert [stage.name for stage in STAGES] == list(SelectorOptions.model_fields)
    every = SelectorOptions(agreement=True, prior=True, nms=True, exclusion=True, span=32)
    assert stages.stage_mask(every) == sum(1 << i for i in range(len(STAGES))) + (32 << 8)
