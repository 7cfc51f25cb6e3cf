"""What the queries of a prompt's groups attend to, block by block, against float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sfi_sglang.kernels.block_mass import BLOCK_TOKENS, block_mass, tiles_of
from tests.kernels.made import DEVICE, DTYPES, error_of, logits64, pools, scoring_of

pytestmark = pytest.mark.interpreted
SLOTS = 700


@pytest.mark.parametrize("kind", ["bare", "cap", "fp8"])
@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=3)
@given(
    kv_heads=st.sampled_from([1, 2]),
    group=st.sampled_from([1, 3, 4, 7]),
    dim=st.sampled_from([64, 96, 128]),
    asking=st.tuples(st.integers(1, 6), st.integers(1, 20)),
    prefix=st.tuples(st.integers(70, 600), st.integers(70, 600)),
    splits=st.sampled_from([1, 3]),
    seed=st.integers(0, 99),
)
def test_two_prompts_in_one_pass(dtype, kind, kv_heads, group, dim, asking, prefix, splits, seed):
    generator = torch.Generator().manual_seed(seed)
    heads = kv_heads * group
    scoring = scoring_of(kind, heads, dim, generator)
    keys, _ = pools(kv_heads, dim, SLOTS, dtype, scoring, generator)
    q = torch.randn(2 + sum(asking), heads, dim, generator=generator).to(DEVICE, dtype)  # two of somebody else
    req_to_token = torch.stack([torch.randperm(SLOTS, generator=generator) for _ in range(3)]).int().to(DEVICE)
    blocks = [range(1, each // BLOCK_TOKENS) for each in prefix]
    prompts = [(2, 2, asking[0], blocks[0]), (0, 2 + asking[0], asking[1], blocks[1])]
    tiles, counts = (each.to(DEVICE) for each in tiles_of(prompts, group))
    most = max(map(len, blocks))
    lse = torch.full((len(counts) * heads, most), torch.nan, device=DEVICE)
    out = torch.full((len(counts), kv_heads, most), torch.nan, device=DEVICE)
    block_mass(q, keys, req_to_token, tiles, counts, scoring, lse, out, splits)
    number = 0
    for line, start, queries, of in prompts:
        slots = req_to_token[line, of.start * BLOCK_TOKENS : of.stop * BLOCK_TOKENS].long()
        for query in q[start : start + queries]:
            logits = logits64(query.view(kv_heads, group, dim), keys[slots].transpose(0, 1), scoring)
            mass = logits.softmax(-1).mean(1).unflatten(-1, (-1, BLOCK_TOKENS)).sum(-1)
            torch.testing.assert_close(out[number, :, : len(of)].double(), mass, rtol=error_of(dtype), atol=1e-6)
            number += 1
    assert number == len(counts)
