"""What a Scoring reads off a layer, and the torch executor's attention for every kind of layer, in float64."""

import pytest
import torch
from sglang.srt.layers.radix_attention import RadixAttention

from sfi_sglang.attention import controls, reference
from sfi_sglang.selection import selector
from sfi_sglang.selection.scoring import Scoring

FP8 = torch.float8_e4m3fn
SINKS = torch.tensor([3.0, -2.0, 6.0, 0.0, 4.0, 9.0])
SCORINGS = {
    "bare": Scoring(0.25),
    "cap": Scoring(0.9, cap=2.0),
    "sinks": Scoring(0.25, sinks=SINKS),
    "fp8": Scoring(0.25, k_scale=0.07, v_scale=1.7),
    "everything": Scoring(0.9, 2.0, SINKS, 0.07, 1.7),
}


def layer(**more) -> RadixAttention:
    return RadixAttention(num_heads=4, head_dim=64, scaling=0.125, num_kv_heads=2, layer_id=0, **more)


def test_a_plain_layer_has_a_bare_scale():
    found = Scoring.of(layer(), fp8=False)
    assert found.bare and found.scale == found.dot_scale == 0.125
    logits = torch.randn(5)
    assert found.capped(logits) is logits


def test_of_a_layer_with_everything():
    built = layer(logit_cap=30.0)
    built.k_scale_float, built.v_scale_float = 0.5, 2.0
    found = Scoring.of(built, fp8=True, sinks=torch.ones(4, dtype=torch.bfloat16))
    assert (found.scale, found.cap, found.k_scale, found.v_scale) == (0.125, 30.0, 0.5, 2.0)
    assert found.sinks.tolist() == [1.0] * 4
    assert found.dot_scale == 0.0625
    unscaled = Scoring.of(built, fp8=False)
    assert unscaled.k_scale == unscaled.v_scale == 1.0
    assert Scoring.of(layer(), fp8=True).bare  # the checkpoint has no scales
    torch.testing.assert_close(found.capped(torch.tensor([0.1, 1e6, -1e6])), torch.tensor([0.1, 30.0, -30.0]))


@pytest.mark.parametrize("more", [{"cap": 1.0}, {"sinks": SINKS}, {"k_scale": 2.0}, {"v_scale": 2.0}])
def test_what_is_not_bare(more):
    assert not Scoring(1.0, **more).bare


def test_a_cap_of_another_kind_is_refused():
    with pytest.raises(ValueError, match="by arctan, not by tanh"):
        Scoring.of(layer(logit_cap=30.0, logit_capping_method="arctan"), fp8=False)
    assert Scoring.of(layer(logit_capping_method="arctan"), fp8=False).bare  # nothing is capped


def logits64(q, k, scoring):
    logits = q.double() @ (k.double() * scoring.k_scale).mT * scoring.scale
    return scoring.cap * (logits / scoring.cap).tanh() if scoring.cap else logits


def attention64(q, k, v, scoring):
    """q [6, D], stored k and v [2, n, D] -> [6, D]."""
    weights = logits64(q.view(2, 3, -1), k, scoring).exp()
    more = 0.0 if scoring.sinks is None else scoring.sinks.double().exp().view(2, 3, 1)
    return (weights / (weights.sum(-1, keepdim=True) + more) @ (v.double() * scoring.v_scale)).view(6, -1)


def stored(scoring: Scoring, tokens: int):
    """Random keys and values [tokens, 2, 16] as the pool has them."""
    dtype = torch.float32 if scoring.k_scale == 1 else FP8
    return (torch.randn(tokens, 2, 16) / scoring.k_scale).to(dtype), (torch.randn(tokens, 2, 16)).to(dtype)


@pytest.mark.parametrize("kind", SCORINGS)
def test_decode(kind):
    torch.manual_seed(0)
    scoring = SCORINGS[kind]
    keys, values = stored(scoring, 60)
    slots, q = torch.randperm(60)[:33], torch.randn(6, 16)
    k, v = (reference.gather(pool, reference.dense_index(slots, 2), torch.float32) for pool in (keys, values))
    assert torch.equal(k[1], keys.float()[slots, 1])
    exact = attention64(q, k, v, scoring)
    torch.testing.assert_close(reference.decode(q, k, v, scoring).double(), exact, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("new", "positions"), [(4, None), (40, None), (4, [3, 9, 10, 39])])
@pytest.mark.parametrize("kind", SCORINGS)
def test_extend(kind, new, positions):
    torch.manual_seed(0)
    scoring = SCORINGS[kind]
    k, v = (pool.float().transpose(0, 1).contiguous() for pool in stored(scoring, 40))
    q = torch.randn(new, 6, 16)
    out = reference.extend(q, k, v, scoring, None if positions is None else torch.tensor(positions))
    for i, last in enumerate(positions or range(40 - new, 40)):
        exact = attention64(q[i], k[:, : last + 1], v[:, : last + 1], scoring)
        torch.testing.assert_close(out[i].double(), exact, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", SCORINGS)
def test_evidence_is_of_capped_logits_of_real_keys(kind):
    torch.manual_seed(0)
    scoring = SCORINGS[kind]
    keys, q = stored(scoring, 50)[0].transpose(0, 1), torch.randn(2, 3, 16)
    found = selector.attention_logits(q, keys, scoring)
    torch.testing.assert_close(found.double(), logits64(q, keys, scoring), atol=1e-5, rtol=1e-4)
    mass = reference.coverage(found, torch.arange(50).expand(2, -1), range(4, 40))
    torch.testing.assert_close(mass, torch.ones(2, 2))  # all tokens seen: sinks take none of it


def test_pages_are_chosen_by_capped_bounds():
    """One query wants the first page very much, two want the second enough: a cap makes them count."""
    keys = torch.zeros(1, 32, 2)
    keys[0, 3, 0], keys[0, 20, 1] = 20.0, 4.0
    q = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]).view(1, 3, 2)
    assert controls.pages(q, keys, 16, Scoring(1.0)).tolist() == [[*range(16)]]
    assert controls.pages(q, keys, 16, Scoring(1.0, cap=3.0)).tolist() == [[*range(16, 32)]]
