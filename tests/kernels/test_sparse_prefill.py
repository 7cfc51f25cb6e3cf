"""Sparse extend through kernels against the same in torch, in batches with other requests."""

from unittest.mock import patch

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from sfi_sglang import sglang_symbols
from sfi_sglang.api.options import EXTEND_TAIL, SFIOptions
from sfi_sglang.attention import sparse_prefill
from sfi_sglang.attention.layers import CoveredLayers
from sfi_sglang.attention.reference import extend
from sfi_sglang.attention.sparse_extend import Sparsity, sparse_extend
from sfi_sglang.attention.sparse_prefill import SparsePrefill
from sfi_sglang.scheduling.request_state import RequestState
from sfi_sglang.scheduling.row_plan import DENSE_ROW, RowPlan, Step
from sfi_sglang.scheduling.segments import SegmentTracker, Vocabulary
from sfi_sglang.selection.scoring import Scoring
from tests.helpers import GPU
from tests.kernels.made import DEVICE, DTYPES, KINDS, error_of, pools, scoring_of

pytestmark = pytest.mark.interpreted
SLOTS, LINES = 900, 3
FLASH = GPU and torch.cuda.get_device_capability()[0] == 9


def row_of(prefix: int, count: int, line: int, budget: int, ends: bool) -> RowPlan:
    """A prompt of `count` new tokens behind `prefix` cached ones. ends: is this its last pass?"""
    options = SFIOptions(budget=budget, sink=4, recent=40, extend="sparse")
    state = RequestState(options, prefix + count, SegmentTracker(options, Vocabulary([])))
    sparse = count - EXTEND_TAIL if ends else count
    return RowPlan(Step.SLOW if ends else Step.CHUNK, prefix + count, state, line, sparse=sparse)


@pytest.fixture
def flash(request, monkeypatch):
    """Is FlashAttention used where it can be? Where it cannot run, torch says what it would."""
    if request.param and not FLASH:
        monkeypatch.setattr(sglang_symbols, "FLASH_ATTENTION", f"{__name__}.paged_attention")
    return request.param


def paged_attention(
    q, k_cache, v_cache, page_table, cache_seqlens, cu_seqlens_q, max_seqlen_q, softmax_scale, causal
) -> Tensor:
    """FlashAttention's own words: each sequence's queries are its last tokens, and see what is not after them."""
    assert causal and int(cu_seqlens_q.diff().max()) <= max_seqlen_q
    out = torch.empty_like(q)
    for number, length in enumerate(cache_seqlens.tolist()):
        mine = slice(*cu_seqlens_q[number : number + 2].tolist())
        pages = page_table[number, :length].long()
        keys, values = (pool[pages].flatten(0, 1).transpose(0, 1) for pool in (k_cache, v_cache))
        count = mine.stop - mine.start
        rows = torch.arange(length - count, length, device=q.device)
        out[mine] = extend(q[mine], keys, values, Scoring(softmax_scale), rows)
    return out


@pytest.mark.parametrize(
    ("kind", "flash"), [*((kind, False) for kind in KINDS), ("bare", True), ("cap", True)], indirect=["flash"]
)
@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=2, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kv_heads=st.sampled_from([1, 2]),
    group=st.sampled_from([1, 3, 4, 7]),
    dim=st.sampled_from([64, 96, 128, 256]),
    new=st.tuples(st.integers(66, 160), st.integers(1, 90)),
    prefix=st.tuples(st.integers(200, 400), st.integers(230, 300)),
    budgets=st.tuples(st.sampled_from([32, 100]), st.sampled_from([64, 80])),
    seed=st.integers(0, 99),
)
@example(1, 1, 64, (65, 64), (320, 300), (32, 64), 0)  # one sparse token, and whole groups without a tail
def test_prompts_of_a_pass(dtype, kind, flash, kv_heads, group, dim, new, prefix, budgets, seed):
    """The end of one prompt, three tokens of a dense request, and a chunk of another."""
    generator = torch.Generator().manual_seed(seed)
    heads = kv_heads * group
    scoring = scoring_of(kind, heads, dim, generator)
    keys, values = pools(kv_heads, dim, SLOTS, dtype, scoring, generator)
    counts = [new[0], 3, new[1]]
    q = torch.randn(sum(counts) + 2, heads, dim, generator=generator).to(DEVICE, dtype)  # padded by two
    req_to_token = torch.stack([torch.randperm(SLOTS, generator=generator) for _ in range(LINES)]).int().to(DEVICE)
    lines = [2, 1, 0]
    rows = [
        row_of(prefix[0], new[0], lines[0], budgets[0], True),
        DENSE_ROW,
        row_of(prefix[1], new[1], lines[2], budgets[1], False),
    ]
    ours = SparsePrefill(CoveredLayers((0,), heads, kv_heads, dim), req_to_token, 4, flash)
    with patch.object(sparse_prefill, "SLICE", 2):
        assert not ours.plan(rows, counts)  # the dense request is none of ours
    out = torch.full_like(q, 7)
    ours.run(q, keys, values, scoring, out)
    start = 0
    for row, count, line in zip(rows, counts, lines, strict=True):
        mine, start = slice(start, start + count), start + count
        if row.state is None:
            assert (out[mine] == 7).all()
            continue
        slots = req_to_token[line, : row.length].long()
        k, v = (pool[slots].transpose(0, 1).float() for pool in (keys, values))
        how = Sparsity.of(row.state.options, count - row.sparse)
        expected = sparse_extend(q[mine].float(), k, v, scoring, how)
        wrong = (out[mine].float() - expected).norm(dim=-1) / expected.norm(dim=-1)
        assert wrong.median() < error_of(dtype)
        # Two blocks may be so close in mass that rounding swaps them: then a whole group of one KV head differs.
        assert (wrong.view(count, kv_heads, group).amax(-1) < 2 * error_of(dtype)).float().mean() > 0.7
    assert (out[start:] == 7).all()


def test_a_pass_of_ours_alone_needs_no_other_attention():
    ours = SparsePrefill(CoveredLayers((0,), 2, 1, 64), torch.zeros(1, 800, dtype=torch.int32, device=DEVICE), 4)
    assert ours.plan([row_of(500, 200, 0, 64, True)], [200])
    assert not ours.plan([row_of(500, 200, 0, 64, True), DENSE_ROW], [200, 1])
    assert not ours.plan([DENSE_ROW], [5]) and not ours.prompts


def test_the_server_compiles_what_prompts_run():
    """Every kernel, on whatever is in the pool's first slot."""
    keys = torch.zeros(4, 1, 64, device=DEVICE, dtype=DTYPES[0])
    ours = SparsePrefill(CoveredLayers((0,), 2, 1, 64), torch.zeros(1, 800, dtype=torch.int32, device=DEVICE), 4)
    ours.compile(keys, keys, scoring_of("bare", 2, 64, torch.Generator()), DTYPES[0])
    assert not ours.prompts
