"""Decode attention of every kind of layer against float64, for dense and fast rows together."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sfi_sglang.api.options import EVIDENCE_PAGE
from sfi_sglang.kernels.decode import DecodeBuffers, attend, merge
from sfi_sglang.kernels.launch import FAST
from sfi_sglang.kernels.locate import locate
from sfi_sglang.kernels.new_tokens import NewTokens
from tests.kernels.made import DEVICE, DIMS, DTYPES, KINDS, attention64, error_of, pools, scoring_of, table_of

pytestmark = pytest.mark.interpreted
SPLITS = 4
NO_PIECES = torch.empty(0, 2, dtype=torch.int32, device=DEVICE)


@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=3)
@given(
    kv_heads=st.sampled_from([1, 2, 3]),
    group=st.sampled_from([1, 3, 4, 16]),
    new=st.booleans(),
    lengths=st.lists(st.sampled_from([1, 2, 15, 16, 17, 63, 64, 65, 130, 257]), min_size=1, max_size=3),
    seed=st.integers(0, 99),
)
def test_decode_of_dense_and_fast_rows_in_one_batch(dtype, kind, dim, kv_heads, group, new, lengths, seed):
    heads, keep, generator = kv_heads * group, 24, torch.Generator().manual_seed(seed)
    scoring = scoring_of(kind, heads, dim, generator)
    keys, values = pools(kv_heads, dim, 603, dtype, scoring, generator)
    q = torch.randn(len(lengths), heads + 2, dim, generator=generator).to(DEVICE, dtype)[:, :heads]
    req_to_token = torch.stack([torch.randperm(600, generator=generator) for _ in range(5)]).int().to(DEVICE)
    req_pool_indices = torch.randint(5, (len(lengths),), generator=generator).to(DEVICE)
    if new:  # a token has one row
        req_pool_indices = torch.randperm(5, generator=generator)[: len(lengths)].to(DEVICE)
    own = torch.arange(600, 600 + len(lengths), device=DEVICE)  # where the last token of each row is, or belongs
    req_to_token[req_pool_indices, torch.tensor(lengths, device=DEVICE) - 1] = own.int()
    selection = torch.zeros(4, 1, kv_heads, keep, dtype=torch.int32)
    lines, visible = [], []
    for row, length in enumerate(lengths):
        if row % 2 or length < 40:  # dense
            lines.append({"SINK": length, "RECENT": length, "LENGTH": length, "SPLIT": -(-length // SPLITS)})
            visible.append([torch.arange(length)] * kv_heads)
            continue
        sink, recent, count = 4, length - 9, min(keep, length - 13 - row)
        picks = [4 + torch.randperm(recent - 4, generator=generator)[:count].sort().values for _ in range(kv_heads)]
        selection[row + 1, 0, :, :count] = torch.stack(picks)
        n = sink + count + 9
        lines.append(
            {
                "SINK": sink,
                "COUNT": count,
                "RECENT": recent,
                "LENGTH": length,
                "SPLIT": -(-n // 3),
                "SELECTION": row + 1,
            }
        )
        visible.append([torch.cat([torch.arange(4), p, torch.arange(recent, length)]) for p in picks])
    buffers = DecodeBuffers.allocate(len(lengths), heads, kv_heads, dim, len(lengths) * SPLITS, EVIDENCE_PAGE, DEVICE)
    out = torch.full(q.shape, torch.nan, dtype=dtype, device=DEVICE)
    slots = torch.full_like(selection, -1, device=DEVICE)
    locate(selection.to(DEVICE), req_to_token, req_pool_indices, table_of(*lines), slots)
    meta = table_of(*({**line, "PARTS": row * SPLITS} for row, line in enumerate(lines)))
    pool = (q, keys, values, req_to_token, req_pool_indices)
    tokens, whole = None, (keys.clone(), values.clone())
    if new and keys.dtype == dtype:
        new_k, new_v = (torch.cat([stored[own], stored[own]], 1)[:, :kv_heads] for stored in whole)  # strided rows
        tokens = NewTokens(new_k, new_v, own)
        keys[own] = values[own] = torch.nan
    attend(*pool, slots[:, 0], meta, NO_PIECES, buffers, scoring, SPLITS, False, FAST, tokens)
    assert (keys.float() == whole[0].float()).all() and (values.float() == whole[1].float()).all()
    merge(meta, buffers, out, scoring, kv_heads, SPLITS, False)
    keys, values, heads_of = keys.double(), values.double(), torch.arange(kv_heads, device=DEVICE)[:, None]
    for row, line in enumerate(visible):
        seen = req_to_token[req_pool_indices[row]][torch.stack(line).to(DEVICE)].long()
        exact = attention64(q[row], keys[seen, heads_of], values[seen, heads_of], scoring)
        error = (out[row].double() - exact).view(kv_heads, -1).norm(dim=1) / exact.view(kv_heads, -1).norm(dim=1)
        assert (error < error_of(dtype)).all()
