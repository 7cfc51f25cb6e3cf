"""Wide rows against float64: several queries of one request beside single rows, one of them leaving evidence."""

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sfi_sglang.api.options import EVIDENCE_PAGE
from sfi_sglang.attention.pass_metadata import PassMetadata, Pieces
from sfi_sglang.kernels.decode import DecodeBuffers, attend, merge
from sfi_sglang.kernels.launch import MIXED, VERIFYING, WIDE
from sfi_sglang.kernels.wide import attend_wide
from sfi_sglang.scheduling.request_state import Refresh
from tests.kernels.made import DEVICE, DTYPES, KINDS, attention64, error_of, logits64, pools, scoring_of

pytestmark = pytest.mark.interpreted
SPLITS, FIRST = 8, 4


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=3)
@given(
    kv_heads=st.sampled_from([1, 2]),
    group=st.sampled_from([1, 3, 4, 7, 16]),
    dim=st.sampled_from([64, 96, 128, 192, 256]),
    length=st.sampled_from([70, 129, 300]),
    repaired=st.sampled_from([1, 3, 15, 16, 40, 63]),
    gap=st.sampled_from([0, 1, 5]),
    wave=st.sampled_from([1, 7, 20]),
    splits=st.sampled_from([2, SPLITS]),
    selects=st.booleans(),
    launch=st.sampled_from([WIDE, VERIFYING]),
    seed=st.integers(0, 99),
)
@example(1, 3, 128, 300, 15, 1, 20, 2, True, WIDE, 0)  # whole blocks that every query sees
@example(1, 3, 192, 300, 15, 1, 20, 2, True, WIDE, 0)
@example(1, 4, 64, 70, 15, 0, 7, 2, False, VERIFYING, 0)  # verifies drafts, and there was no room for its evidence
def test_a_wide_row_beside_a_single_one(
    dtype, kind, kv_heads, group, dim, length, repaired, gap, wave, splits, selects, launch, seed
):
    """Row 0 sees 50 tokens, row 1 repairs tokens that end `gap` tokens before its own, row 2 sees 90 tokens."""
    generator = torch.Generator().manual_seed(seed)
    heads, count = kv_heads * group, 3 + repaired
    scoring = scoring_of(kind, heads, dim, generator)
    keys, values = pools(kv_heads, dim, 400, dtype, scoring, generator)
    q = torch.randn(count, heads + 2, dim, generator=generator).to(DEVICE, dtype)[:, :heads]
    req_to_token = torch.stack([torch.randperm(400, generator=generator) for _ in range(3)]).int().to(DEVICE)
    req_pool_indices = torch.tensor([2, 0, 1] + [0] * repaired, device=DEVICE)
    positions = range(length - 1 - gap - repaired, length - 1 - gap)
    tile = launch.queries(group)
    pieces = Pieces(8 + count, -(-(repaired + 1) // tile), tile, wave)
    metadata = PassMetadata(count, 4 * EVIDENCE_PAGE, DEVICE, pieces)
    for row, tokens in enumerate((50, length, 90)):
        metadata.dense(row, tokens)
    candidates = length - 20 - FIRST
    start = metadata.refresh(1, Refresh(FIRST, candidates, 5), line=0, stages=0) if selects else 0
    metadata.widen(1, 3, positions)
    metadata.load(count, programs=8, splits=splits, block=16)
    buffers = DecodeBuffers.allocate(count, heads, kv_heads, dim, pieces.parts, 4 * EVIDENCE_PAGE, DEVICE)
    buffers.out.fill_(torch.nan)
    buffers.logits.fill_(torch.nan)
    slots = torch.zeros(count, kv_heads, 8, dtype=torch.int32, device=DEVICE)
    out = torch.full(q.shape, torch.nan, dtype=dtype, device=DEVICE)
    pool = (q, keys, values, req_to_token, req_pool_indices)
    attend(*pool, slots, metadata.rows, metadata.pieces, buffers, scoring, SPLITS, True, MIXED)
    attend_wide(*pool, metadata.rows, metadata.wide_pieces, buffers, scoring, launch)
    merge(metadata.rows, buffers, out, scoring, kv_heads, SPLITS, True)
    visible = [50, length, 90, *(position + 1 for position in positions)]
    for row, tokens in enumerate(visible):
        chosen = req_to_token[req_pool_indices[row], :tokens].long()
        k, v = (each.double()[chosen].transpose(0, 1) for each in (keys, values))
        exact = attention64(q[row], k, v, scoring)
        assert (out[row].double() - exact).norm() / exact.norm() < error_of(dtype), row
        if row == 1 and selects:
            left = buffers.logits[:, start : start + candidates].double() / torch.log2(torch.tensor(torch.e))
            logits = logits64(q[row].view(kv_heads, group, dim), k, scoring)
            expected = logits.view(heads, -1)[:, FIRST : FIRST + candidates]
            torch.testing.assert_close(left, expected, atol=2e-2, rtol=1e-2)
            lse = buffers.candidate_lse[1].double() / torch.log2(torch.tensor(torch.e))
            torch.testing.assert_close(lse, expected.logsumexp(-1), atol=1e-2, rtol=1e-2)
    written = start + candidates if selects else 0
    assert buffers.logits[:, written:].isnan().all()  # nothing written outside
