"""What the evaluation compares SFI with, against loops in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sfi_sglang.api.admission import admitted
from sfi_sglang.api.options import SFIOptions
from sfi_sglang.api.settings import Settings
from sfi_sglang.attention import controls
from sfi_sglang.selection.scoring import Scoring


def tensors(length: int, kv_heads: int, group: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    q = torch.randn(kv_heads * group, 8, generator=generator)
    return q, torch.randn(kv_heads, length, 8, generator=generator)


def softmax64(logits: np.ndarray) -> np.ndarray:
    e = np.exp(logits - logits.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@settings(max_examples=30)
@given(length=st.integers(70, 200), kv_heads=st.integers(1, 3), group=st.integers(1, 3), seed=st.integers(0, 99))
def test_the_oracle_sees_the_keys_that_get_most_attention(length, kv_heads, group, seed):
    options = SFIOptions(sink=4, budget=12, recent=20, fast="oracle")
    q, keys = tensors(length, kv_heads, group, seed)
    seen = controls.choose(q, keys, options, Scoring(0.3))
    end = options.recent_start(length)
    for head in range(kv_heads):
        queries, own = q.view(kv_heads, group, 8)[head].double().numpy(), keys[head, 4:end].double().numpy()
        best = np.argsort(-softmax64(0.3 * queries @ own.T).mean(0))[:12] + 4
        assert sorted(seen[head].tolist()) == sorted([*range(4), *best.tolist(), *range(end, length)])


@settings(max_examples=30)
@given(length=st.integers(70, 200), kv_heads=st.integers(1, 3), group=st.integers(1, 3), seed=st.integers(0, 99))
def test_pages_are_chosen_whole_by_their_bounds(length, kv_heads, group, seed):
    options = SFIOptions(sink=4, budget=32, recent=20, fast="pages")
    q, keys = tensors(length, kv_heads, group, seed)
    seen = controls.choose(q, keys, options, Scoring(0.3))
    end = options.recent_start(length)
    whole = (end - 4) // 16
    for head in range(kv_heads):
        bounds = np.zeros(whole)
        for page in range(whole):
            inside = keys[head, 4 + 16 * page : 20 + 16 * page].double().numpy()
            for query in q.view(kv_heads, group, 8)[head].double().numpy():
                bounds[page] += np.maximum(query * inside.min(0), query * inside.max(0)).sum()
        chosen = {4 + 16 * page + i for page in np.argsort(-bounds)[:2] for i in range(16)}
        rest = {*range(4), *range(4 + 16 * whole, length)}
        assert set(seen[head].tolist()) == chosen | rest


def test_drift_is_the_mass_on_the_last_tokens_of_spans():
    selected = torch.tensor([[5, 6, 7, 8, 9, 20, 29, 30, 31]])
    keys = torch.zeros(1, 13, 4)  # four others before the selected ones, all alike
    q = torch.ones(2, 4)
    found = controls.drift(q, keys, selected, recent_start=32, scoring=Scoring(1.0))
    torch.testing.assert_close(found, torch.tensor([4 / 13]))  # 7, 8, 9 and 20; 29 to 31 go on in the recent tokens
    keys[0, 9] = 50.0  # at position 20
    torch.testing.assert_close(controls.drift(q, keys, selected, 32, Scoring(1.0)), torch.tensor([1.0]))


@pytest.mark.parametrize(
    ("sfi", "field"),
    [({"fast": "oracle"}, "sfi.fast"), ({"policy": "drift"}, "sfi.policy")],
)
def test_only_the_torch_executor_compares(sfi, field):
    params = {"custom_params": {"sfi": sfi}}
    assert admitted(params, Settings(executor="torch"), None)[1] == SFIOptions(**sfi)
    with pytest.raises(ValueError, match=f"^{field}: {next(iter(sfi.values()))} .*--sfi-executor torch"):
        admitted(params, Settings(executor="triton"), None)
