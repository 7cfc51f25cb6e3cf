"""Choosing from inherited positions: candidates, masks, bonus; positional stages against the contiguous ones."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from sfi_sglang.api.options import SelectorOptions
from sfi_sglang.selection import reuse, selector, stages
from sfi_sglang.selection.snapshot_store import Inherited, Snapshot
from sfi_sglang.selection.stages import Evidence


def inherited(positions, covered: int, tokens: int) -> Inherited:
    snapshot = Snapshot(torch.tensor([positions], dtype=torch.int32), 4, covered, (b"",) * 10)
    return Inherited(snapshot, tokens)


def test_candidates_are_what_is_left_of_the_memory_and_the_new_tokens():
    cut = inherited([[4, 9, 70], [5, 64, 80]], covered=90, tokens=64)
    found = reuse.candidate_positions(cut, sink=4, recent_start=68)[0]
    assert found[0].tolist() == [reuse.NOWHERE, 4, 9, 64, 65, 66, 67]
    assert found[1].tolist() == [reuse.NOWHERE, reuse.NOWHERE, 5, 64, 65, 66, 67]
    assert reuse.fewest_candidates(cut, sink=4, recent_start=68) == 5
    assert reuse.fewest_candidates(cut, sink=5, recent_start=68) == 4  # position 4 may be a sink token


def test_a_memory_beyond_the_recent_start_brings_no_new_tokens():
    whole = inherited([[4, 9, 70]], covered=100, tokens=128)
    assert reuse.candidate_positions(whole, sink=4, recent_start=80)[0].tolist() == [[4, 9, 70]]


def test_keys_and_evidence_of_candidates():
    keys = torch.arange(20.0).view(1, 20, 1).expand(2, 20, 3)
    positions = torch.tensor([[reuse.NOWHERE, 3, 7], [1, 2, 19]])
    gathered = reuse.gather_keys(keys, positions)
    assert gathered[0, 1:, 0].tolist() == [3.0, 7.0] and gathered[1, :, 0].tolist() == [1.0, 2.0, 19.0]
    masked = reuse.mask_logits(torch.zeros(2, 4, 3), positions)
    assert masked[0, :, 0].tolist() == [-torch.inf] * 4 and masked[1].abs().sum() == 0


def test_the_bonus_goes_to_valid_positions_only():
    scores = torch.zeros(1, 2, 10)  # candidates are positions 4..13
    given_bonus = reuse.add_bonus(scores, inherited([[3, 5, 12], [6, 13, 20]], covered=13, tokens=64), sink=4)
    assert given_bonus[0, 0].nonzero()[:, 0].tolist() == [1, 8]
    assert given_bonus[0, 1].nonzero()[:, 0].tolist() == [2]


@given(
    n=st.integers(1, 60),
    seed=st.integers(0, 999),
    offset=st.integers(0, 5),
    stages=st.builds(SelectorOptions, nms=st.booleans(), span=st.booleans()),
)
def test_contiguous_positions_give_the_contiguous_stages(n, seed, offset, stages):
    scores = torch.randn(2, 3, n, generator=torch.Generator().manual_seed(seed)).log_softmax(-1)
    positions = (torch.arange(n) + offset).expand(2, 3, n)
    plain = stages.model_copy(update={"prior": False, "exclusion": False})
    torch.testing.assert_close(selector.score(scores, 1, plain, positions), selector.score(scores, 1, plain))
    k = max(1, n // 2)
    picked = selector.select(scores, 1, k, plain, positions)
    assert torch.equal(picked, selector.select(scores, 1, k, plain) + offset)


def test_a_span_does_not_leap_over_a_gap():
    scores = torch.tensor([[0.0, -9.0, -9.0, -9.0]])
    positions = torch.tensor([[10, 20, 42, 43]])
    assert stages.span(scores, Evidence(1, positions)).tolist() == [[0.0, 0.0, 0.0, -9.0]]


def test_empty_slots_are_never_chosen():
    positions = torch.tensor([[reuse.NOWHERE, reuse.NOWHERE, 5, 6, 40]])
    scores = torch.tensor([[-torch.inf, -torch.inf, -5.0, -1.0, -3.0]])
    for name in ("span", "paper", "plain"):
        stages = SelectorOptions.model_validate(name)
        assert selector.select(scores, 1, 3, stages, positions).tolist() == [[5, 6, 40]]


def test_no_candidates_at_all_is_an_empty_memory():
    """A budget of one token can leave none between sink and recent; an error here would end the server."""
    none = torch.zeros(1, 2, 0)
    memory = inherited([[3, 5], [6, 13]], covered=13, tokens=64)
    assert reuse.add_bonus(none, memory, sink=4).shape == (1, 2, 0)
    for name in ("span", "paper", "plain"):
        stages = SelectorOptions.model_validate(name)
        evidence = selector.power_mean(torch.zeros(1, 2, 5, 0).log_softmax(-1), stages)
        assert selector.select(evidence, 5, 1, stages).shape == (1, 2, 0)


@given(
    st.lists(st.sets(st.integers(4, 399), min_size=20, max_size=20), min_size=2, max_size=2),
    st.integers(1, 7),
    st.integers(4, 420),
)
def test_the_host_knows_how_many_candidates_are_left_at_least(heads, blocks, recent_start):
    cut = inherited([sorted(head) for head in heads], covered=400, tokens=64 * blocks)
    found = reuse.candidate_positions(cut, sink=4, recent_start=recent_start)
    fewest = int((found != reuse.NOWHERE).sum(-1).min())
    told = reuse.fewest_candidates(cut, sink=4, recent_start=recent_start)
    assert told <= fewest
    if recent_start % 64 == 0 or recent_start >= cut.covered:
        assert told == fewest
