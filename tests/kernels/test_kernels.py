"""Every Triton kernel against the torch reference: under the interpreter on a CPU, compiled on a GPU."""

import os
import re
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sfi_sglang.api.options import EVIDENCE_PAGE, SelectorOptions
from sfi_sglang.attention import reference
from sfi_sglang.kernels import coverage, evidence, rows, stages
from sfi_sglang.kernels.decode import DecodeBuffers, attend, merge
from sfi_sglang.kernels.launch import MIXED
from sfi_sglang.kernels.select import select
from sfi_sglang.selection import selector
from sfi_sglang.selection.stages import stage_mask
from sfi_sglang.selection.table import RING
from tests.kernels.made import DEVICE, DIMS, KINDS, logits64, pools, scoring_of, table_of

pytestmark = pytest.mark.interpreted
SPLITS = 4
HOPPER_SHARED = 227 << 10  # bytes that one program may have


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=5)
@given(
    agreement=st.booleans(),
    dim=st.sampled_from([64, 96]),
    group=st.sampled_from([1, 4]),
    length=st.sampled_from([40, 64, 129, 1100]),
    offset=st.sampled_from([0, 1]),
    since=st.sampled_from([0, 1, 64, 600]),
    seed=st.integers(0, 99),
)
def test_evidence_and_coverage_of_a_slow_row(kind, agreement, dim, group, length, offset, since, seed):
    """The old selection of 9 positions, made `since` tokens ago; the seventh slow step that has one."""
    kv_heads, dtype, generator = 2, torch.float16, torch.Generator().manual_seed(seed)
    scoring = scoring_of(kind, kv_heads * group, dim, generator)
    keys, values = pools(kv_heads, dim, 1200, dtype, scoring, generator)
    q = torch.randn(2, kv_heads * group, dim, generator=generator).to(DEVICE, dtype)
    req_to_token = torch.stack([torch.randperm(1200, generator=generator) for _ in range(2)]).int().to(DEVICE)
    first, last = 4, length - 20
    recent, keep, observed = max(last - since, first + 9), 12, 6
    picks = [first + torch.randperm(recent - first, generator=generator)[:9].sort().values for _ in range(kv_heads)]
    selection = torch.zeros(3, kv_heads, keep, dtype=torch.int32)
    selection[2, :, :9] = torch.stack(picks)
    slow = {
        "SINK": length, "RECENT": length, "LENGTH": length, "SPLIT": -(-length // SPLITS),
        "EVIDENCE_AT": offset * EVIDENCE_PAGE, "FIRST": first, "CANDIDATES": last - first,
        "STAGES": rows.AGREEMENT.value if agreement else 0, "SELECTION": 2,
        "OLD_COUNT": 9, "OLD_RECENT": recent, "OBSERVED": observed, "PARTS": 1,
    }  # fmt: skip
    dense = {"SINK": 1, "RECENT": 1, "LENGTH": 1, "SPLIT": 1}
    meta = table_of(dense, slow)
    pages = 4
    page_to_row = torch.full((pages,), -1, dtype=torch.int32)
    page_to_row[offset : offset + -(-(last - first) // EVIDENCE_PAGE)] = 1
    buffers = DecodeBuffers.allocate(2, kv_heads * group, kv_heads, dim, 1 + SPLITS, pages * EVIDENCE_PAGE, DEVICE)
    chosen = torch.zeros(2, kv_heads, 8, dtype=torch.int32, device=DEVICE)
    req_pool_indices = torch.tensor([0, 1], device=DEVICE)
    pool = (q, keys, values, req_to_token, req_pool_indices)
    pieces = torch.tensor([[0, 0], *([1, i] for i in range(SPLITS)), [-1, -1]], dtype=torch.int32, device=DEVICE)
    attend(*pool, chosen, meta, pieces, buffers, scoring, SPLITS, True, MIXED)
    merge(meta, buffers, torch.empty_like(q), scoring, kv_heads, SPLITS, True)
    scores = torch.full((kv_heads, pages * EVIDENCE_PAGE), torch.nan, device=DEVICE)
    refresh_rows = torch.tensor([1, -1], dtype=torch.int32, device=DEVICE)
    mass = torch.full((2, 1, kv_heads, 2), torch.nan, device=DEVICE)
    evidence.merge_logits(buffers, meta, page_to_row.to(DEVICE), refresh_rows, selection.to(DEVICE), scores, mass[:, 0])
    sums = torch.full((3, RING, 1, kv_heads, 2), 2.0, device=DEVICE)
    coverage.record(mass, meta, refresh_rows, sums)
    slots = req_to_token[1, :length].long()
    logits = logits64(q[1].view(kv_heads, group, dim), keys.float()[slots].transpose(0, 1), scoring).float()
    ends = torch.cat([torch.arange(first), torch.arange(recent, length)])
    visible = torch.stack([torch.cat([ends, positions]) for positions in picks]).to(DEVICE)
    expected = reference.coverage(logits, visible, range(first, last))
    torch.testing.assert_close(mass[1, 0], expected, atol=2e-3, rtol=0)
    torch.testing.assert_close(sums[2, 2], 2.0 + mass[1])
    assert (sums[:2] == 2.0).all() and (sums[2, [0, 1, 3]] == 2.0).all() and mass[0].isnan().all()
    log_p = logits[..., first:last].log_softmax(-1)
    mine = scores[:, offset * EVIDENCE_PAGE : offset * EVIDENCE_PAGE + last - first].log_softmax(-1)
    expected = selector.power_mean(log_p, SelectorOptions(agreement=agreement))
    torch.testing.assert_close(mine, expected, atol=2e-2, rtol=1e-3)
    assert scores[:, offset * EVIDENCE_PAGE + last - first :].isnan().all()  # nothing written outside


@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=3)
@given(
    agreement=st.booleans(),
    count=st.sampled_from([1, 16, 48, 64]),
    candidates=st.sampled_from([1, 63, 64, 65, 700]),
    seed=st.integers(0, 99),
)
def test_prompt_evidence(kind, dim, agreement, count, candidates, seed):
    """Candidates shared by the heads (fresh), and each head's own, some of them empty (inherit)."""
    kv_heads, generator = 2, torch.Generator().manual_seed(seed)
    scoring = scoring_of(kind, kv_heads, dim, generator)
    keys, _ = pools(kv_heads, dim, 900, torch.float16, scoring, generator)
    queries = torch.randn(kv_heads, count, dim, generator=generator).to(DEVICE, torch.float16)
    own = torch.stack([torch.randperm(900, generator=generator)[:candidates] for _ in range(kv_heads)]).int()
    own[:, 1::7] = -1
    for slots in (own[0].clamp_min(0).expand(kv_heads, -1).to(DEVICE), own.to(DEVICE)):
        out = torch.full((kv_heads, candidates + 3), torch.nan, device=DEVICE)
        evidence.prompt_evidence(queries, keys, slots, scoring, agreement, out)
        used = torch.stack([keys.float()[line.clamp_min(0).long(), head] for head, line in enumerate(slots)])
        logits = logits64(queries, used, scoring).float().masked_fill((slots < 0)[:, None], -torch.inf)
        expected = selector.power_mean(logits.log_softmax(-1), SelectorOptions(agreement=agreement))
        found = out[:, :candidates].masked_fill(slots < 0, -torch.inf)
        torch.testing.assert_close(found.log_softmax(-1), expected.log_softmax(-1), atol=2e-2, rtol=1e-3)
        assert (out[:, :candidates][slots < 0] < -1e29).all()
        assert out[:, candidates:].isnan().all()


@pytest.mark.parametrize(
    "name",
    ["plain", "span", "span8", "span16", "span64", "paper", "prior", "exclusion", "nms+span16", "prior+nms+span"],
)
@settings(max_examples=6)  # of each
@given(
    kv_heads=st.sampled_from([2, 3]),
    n=st.sampled_from([1, 2, 17, 18, 1023, 1024, 1025, 1500, 4096, 6000]),
    keep=st.sampled_from([1, 16, 600, 2100]),
    distinct=st.sampled_from([1, 2, 5, 10**6]),
    seed=st.integers(0, 99),
)
def test_stages_and_selection(name, kv_heads, n, keep, distinct, seed):
    """Two slow rows beside one that is not; scores with many ties too."""
    options = SelectorOptions.model_validate(name)
    pages = -(-n // EVIDENCE_PAGE)
    layers, capacity = 2, (2 * pages + 1) * EVIDENCE_PAGE
    generator = torch.Generator().manual_seed(seed)
    raw = torch.randint(distinct, (2, layers, kv_heads, n), generator=generator).float() / distinct * 12
    log_f = raw.log_softmax(-1).to(DEVICE)
    offsets = [EVIDENCE_PAGE, (1 + pages) * EVIDENCE_PAGE]
    scores = torch.full((2, layers, kv_heads, capacity), torch.nan, device=DEVICE)
    for i, offset in enumerate(offsets):
        scores[0, :, :, offset : offset + n] = log_f[i]
    slow = {"FIRST": 4, "CANDIDATES": n, "KEEP": keep, "STAGES": stage_mask(options)}
    meta = table_of(
        {**slow, "EVIDENCE_AT": offsets[0], "SELECTION": 2}, {}, {**slow, "EVIDENCE_AT": offsets[1], "SELECTION": 0}
    )
    refresh_rows = torch.tensor([0, 2, -1], dtype=torch.int32, device=DEVICE)
    page_to_row = torch.tensor([-1] + pages * [0] + pages * [2], dtype=torch.int32)
    stages.apply(scores, meta, refresh_rows, page_to_row.to(DEVICE), evidence_rows=16)
    found = scores.clone()  # select overwrites the other buffer
    selection = torch.full((3, layers, kv_heads, keep + 2), -7, dtype=torch.int32, device=DEVICE)
    select(scores, meta, refresh_rows, selection)
    buffer = (options.nms + bool(options.span)) % 2
    count = min(keep, n)
    for i, line in enumerate((2, 0)):
        expected = selector.score(log_f[i], 16, options)
        mine = found[buffer, :, :, offsets[i] : offsets[i] + n]
        shift = 0 if options.prior or options.nms or options.exclusion else (expected - mine)[..., :1]
        torch.testing.assert_close(mine + shift, expected, atol=1e-4, rtol=1e-4)
        picks = selector.top_positions(mine, keep) + 4
        assert torch.equal(selection[line, :, :, :count].long(), picks)
    assert (selection[:, :, :, count:] == -7).all() and (selection[1] == -7).all()


def test_every_kernel_compiles_for_hopper_without_a_gpu():
    env = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "tests.kernels.compile_kernels"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=500, env=env)
    assert run.returncode == 0, run.stderr[-3000:]
    shared = [int(found) for found in re.findall(r"(\d+) bytes shared", run.stdout)]
    assert len(shared) == 109 and max(shared) <= HOPPER_SHARED
