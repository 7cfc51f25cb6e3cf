"""The torch executor against attention written out in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sfi_sglang.attention import reference
from sfi_sglang.selection.scoring import Scoring

BF16_ERROR = 2e-2


def exact(q: np.ndarray, k: np.ndarray, v: np.ndarray, scale: float) -> np.ndarray:
    """q [heads, D], k and v [KV, n, D] -> [heads, D], float64."""
    group = q.shape[0] // k.shape[0]
    out = []
    for head, query in enumerate(q):
        logits = k[head // group] @ query * scale
        weights = np.exp(logits - logits.max())
        out.append(weights @ v[head // group] / weights.sum())
    return np.stack(out)


def pools(tokens: int, kv_heads: int, dim: int, dtype=torch.float32):
    return torch.randn(tokens, kv_heads, dim).to(dtype), torch.randn(tokens, kv_heads, dim).to(dtype)


@settings(max_examples=40)
@given(
    kv_heads=st.sampled_from([1, 2, 3]),
    group=st.sampled_from([1, 3, 8]),
    dim=st.sampled_from([16, 64]),
    length=st.integers(1, 200),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    seed=st.integers(0, 1000),
)
def test_decode_over_scattered_slots(kv_heads, group, dim, length, dtype, seed):
    torch.manual_seed(seed)
    keys, values = pools(300, kv_heads, dim, dtype)
    slots = torch.randperm(300, dtype=torch.int32)[:length]
    q = torch.randn(kv_heads * group, dim).to(dtype)
    index = reference.dense_index(slots, kv_heads)
    out = reference.decode(
        q, reference.gather(keys, index, dtype), reference.gather(values, index, dtype), Scoring(dim**-0.5)
    )
    k, v = (pool[slots.long()].transpose(0, 1).double().numpy() for pool in (keys, values))
    error = np.abs(out.double().numpy() - exact(q.double().numpy(), k, v, dim**-0.5)).max()
    assert error < (1e-5 if dtype is torch.float32 else BF16_ERROR)


def test_heads_may_look_at_different_tokens():
    keys, _values = pools(64, 2, 16)
    slots = torch.randperm(64)
    visible = torch.tensor([[0, 5, 9], [1, 2, 40]])
    index = reference.head_major(slots[visible], 2)
    got = reference.gather(keys, index, torch.float32)
    for head in range(2):
        assert torch.equal(got[head], keys[slots[visible[head]], head])


@pytest.mark.parametrize("new", [1, 7, 48])
def test_extend_is_causal_from_the_right(new):
    length, heads = 48, 6
    q, (keys, values) = torch.randn(new, heads, 16), pools(length, 2, 16)
    k, v = keys.transpose(0, 1).contiguous(), values.transpose(0, 1).contiguous()
    out = reference.extend(q, k, v, Scoring(0.25))
    for i in range(new):
        upto = length - new + i + 1
        row = exact(*(x.double().numpy() for x in (q[i], k[:, :upto], v[:, :upto])), 0.25)
        np.testing.assert_allclose(out[i].numpy(), row, rtol=1e-4, atol=1e-5)


def test_grouped_queries_keep_a_heads_rows_together():
    q = torch.arange(2 * 6).view(2, 6, 1).float()  # 2 queries, 6 heads of 3 KV heads
    rows = reference.grouped_queries(q, 3)[..., 0]
    assert rows.tolist() == [[0, 1, 6, 7], [2, 3, 8, 9], [4, 5, 10, 11]]


def test_coverage_is_the_mass_of_the_visible_tokens():
    logits = torch.zeros(2, 3, 10)
    visible = torch.tensor([[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]])
    found = reference.coverage(logits, visible, range(1, 9))
    torch.testing.assert_close(found, torch.tensor([[0.5, 0.5], [0.5, 0.5]]))
    found = reference.coverage(logits, visible, range(2, 5))
    torch.testing.assert_close(found, torch.tensor([[0.5, 1.0], [0.5, 0.0]]))
    logits[:, :, 0] = 100.0
    found = reference.coverage(logits, torch.tensor([[0], [1]]), range(1, 9))
    torch.testing.assert_close(found, torch.tensor([[1.0, 0.0], [0.0, 1 / 8]]))


def test_visible_positions_are_sink_recent_and_selected():
    positions = torch.tensor([[[10, 12], [11, 20]]])
    visible = reference.visible_positions(positions, sink=2, recent_start=32, length=35)
    assert visible.tolist() == [[[0, 1, 32, 33, 34, 10, 12], [0, 1, 32, 33, 34, 11, 20]]]
