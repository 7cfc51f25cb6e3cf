"""Sparse extend in torch against itself written out query by query in float64."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sfi_sglang.attention.reference import extend
from sfi_sglang.attention.sparse_extend import Sparsity, sparse_extend
from sfi_sglang.selection.reuse import MERGE_BONUS
from sfi_sglang.selection.scoring import Scoring

SCALE = 0.25


def weights(q: np.ndarray, k: np.ndarray, scoring: Scoring, head: int | None = None) -> np.ndarray:
    """Of one query over keys [n, D]. head: of the query, whose sink takes its part."""
    logits = k @ q * scoring.scale
    if scoring.cap:
        logits = scoring.cap * np.tanh(logits / scoring.cap)
    found = np.exp(logits)
    sink = 0.0 if head is None or scoring.sinks is None else float(scoring.sinks[head].exp())
    return found / (found.sum() + sink)


def best(scores: np.ndarray, many: int) -> set[int]:
    """Of equal scores the earlier one wins."""
    return set(np.argsort(-scores, kind="stable")[:many].tolist())


def chosen(share: np.ndarray, how: Sparsity) -> set[int]:
    """Of the candidates: share [c] of the attention of the query that chooses."""
    if how.block:
        blocks = best(share.reshape(-1, how.block).sum(1), how.budget // how.block)
        return {block * how.block + i for block in blocks for i in range(how.block)}
    spread = [share[max(i - how.selector.span, 0) : i + 3].max() for i in range(len(share))]
    return best(np.array(spread), how.budget)


def written_out(q, k, v, scoring: Scoring, how: Sparsity, inherited=None) -> np.ndarray:
    """Query by query and head by head: q [n, heads, D], k and v [KV, L, D]."""
    n, heads, _ = q.shape
    q, k, v = (x.double().numpy() for x in (q, k, v))
    prefix, group = k.shape[1] - n, heads // k.shape[0]
    candidates = how.candidates(prefix)
    out = np.empty((n, heads, v.shape[-1]))
    for head in range(heads):
        keys, values = k[head // group], v[head // group]
        full = [weights(q[i, head], keys[: prefix + i + 1], scoring, head) @ values[: prefix + i + 1] for i in range(n)]
        for start in range(0, n, how.group):
            end = max(min(start + how.group, n - how.tail), start + 1)
            asking = q[start:end].mean(0) if how.mean else q[start]
            rows = asking[head // group * group : (head // group + 1) * group]
            share = np.mean([weights(row, keys[candidates.start : candidates.stop], scoring) for row in rows], 0)
            if inherited is not None:
                share[inherited[head // group].numpy() - candidates.start] *= np.exp(MERGE_BONUS)
            middle = sorted(candidates.start + i for i in chosen(share, how))
            for i in range(start, min(start + how.group, n)):
                seen = [*range(candidates.start), *middle, *range(candidates.stop, prefix + i + 1)]
                out[i, head] = weights(q[i, head], keys[seen], scoring, head) @ values[seen]
            if how.dense:
                lost = full[start] - out[start, head]
                out[start : start + how.group if how.delta else start + 1, head] += lost
        for i in range(max(n - how.tail, 0), n):
            out[i, head] = full[i]
    return out


def made(n: int, prefix: int, kv_heads: int, group: int, seed: int):
    generator = torch.Generator().manual_seed(seed)
    q = torch.randn(n, kv_heads * group, 16, generator=generator)
    k, v = torch.randn(2, kv_heads, prefix + n, 16, generator=generator)
    return q, k, v


WAYS = st.builds(
    Sparsity,
    budget=st.sampled_from([16, 32]),
    sink=st.integers(0, 5),
    recent=st.integers(0, 40),
    group=st.sampled_from([4, 16, 64]),
    tail=st.integers(0, 20),
    delta=st.booleans(),
    dense=st.booleans(),
    mean=st.booleans(),
    block=st.sampled_from([0, 8, 16]),
)


@settings(max_examples=40)
@given(
    how=WAYS,
    n=st.integers(1, 70),
    prefix=st.integers(100, 180),
    kv_heads=st.sampled_from([1, 3]),
    inherits=st.booleans(),
    kind=st.sampled_from(["bare", "cap", "sinks"]),
    seed=st.integers(0, 99),
)
def test_as_written_out(how, n, prefix, kv_heads, inherits, kind, seed):
    q, k, v = made(n, prefix, kv_heads, 2, seed)
    sinks = torch.randn(2 * kv_heads) + 4 if kind == "sinks" else None
    scoring = Scoring(SCALE, cap=1.0 if kind == "cap" else 0.0, sinks=sinks)
    candidates, inherited = how.candidates(prefix), None
    if inherits:
        shuffled = torch.stack([torch.randperm(len(candidates)) for _ in range(kv_heads)])
        inherited = candidates.start + shuffled[:, :20].sort(-1).values
    out = sparse_extend(q, k, v, scoring, how, inherited)
    np.testing.assert_allclose(out.numpy(), written_out(q, k, v, scoring, how, inherited), atol=2e-5)


@settings(max_examples=20)
@given(how=WAYS, n=st.integers(1, 70), prefix=st.integers(0, 180), seed=st.integers(0, 99))
def test_a_budget_over_the_prefix_is_dense(how, n, prefix, seed):
    q, k, v = made(n, prefix, 2, 2, seed)
    whole = replace(how, budget=max(prefix, 1))
    assert torch.equal(sparse_extend(q, k, v, Scoring(SCALE), whole), extend(q, k, v, Scoring(SCALE)))


@settings(max_examples=20)
@given(how=WAYS, n=st.integers(2, 70), prefix=st.integers(100, 180), seed=st.integers(0, 99), data=st.data())
def test_no_group_hears_of_later_ones(how, n, prefix, seed, data):
    """But for the tail: it begins where the prompt ends."""
    end = data.draw(st.integers(1, n - 1))
    q, k, v = made(n, prefix, 2, 2, seed)
    whole = sparse_extend(q, k, v, Scoring(SCALE), how)
    cut = sparse_extend(q[:end], k[:, : prefix + end], v[:, : prefix + end], Scoring(SCALE), how)
    before = max(end - how.tail, 0)
    if how.mean:
        before = before // how.group * how.group
    torch.testing.assert_close(whole[:before], cut[:before], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("mean", [False, True])
@pytest.mark.parametrize("group", [16, 64])
def test_groups_see_what_they_look_for(group, mean):
    """Each has a needle of its own in the prefix, which all its tokens are looking for."""
    n, how = 3 * group, Sparsity(budget=32, recent=20, group=group, tail=0, block=32, mean=mean)
    q, k, v = made(n, 400, 1, 1, 0)
    for number, place in enumerate((70, 170, 270)):
        q[number * group : (number + 1) * group] = k[:, place] * 8
    scoring = Scoring(1.0)
    torch.testing.assert_close(sparse_extend(q, k, v, scoring, how), extend(q, k, v, scoring), atol=1e-3, rtol=1e-3)
