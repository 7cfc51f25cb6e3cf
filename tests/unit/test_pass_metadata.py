"""What the host tells the kernels, and what they take beside the KV pool."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sfi_sglang.api.options import EVIDENCE_PAGE, SFIOptions
from sfi_sglang.attention import pass_metadata
from sfi_sglang.attention.pass_metadata import PassMetadata, Pieces, fast_parts
from sfi_sglang.attention.workspace import Workspace
from sfi_sglang.scheduling.pass_room import PassRoom
from sfi_sglang.scheduling.request_state import Refresh, RequestState
from sfi_sglang.scheduling.segments import SegmentTracker, Vocabulary
from sfi_sglang.selection.limits import FEWEST, MOST_SPLITS, SPARE, Limits
from sfi_sglang.selection.table import DeviceSelection, SelectionTable

OPTIONS = SFIOptions(budget=40, recent=20)
LIMITS = Limits(layers=2, heads=4, kv_heads=2, dim=64, requests=3, graph_rows=4, budget=64, context=5000)


def state(options: SFIOptions = OPTIONS) -> RequestState:
    return RequestState(options, 300, SegmentTracker(options, Vocabulary([])))


def visible(metadata: PassMetadata) -> np.ndarray:
    lines = metadata.rows.numpy()
    columns = (pass_metadata.SINK, pass_metadata.COUNT, pass_metadata.LENGTH, pass_metadata.RECENT)
    sink, count, length, recent = (lines[:, column] for column in columns)
    return sink + count + length - recent


def test_a_refresh_moves_the_selection_on():
    request = state()
    assert request.begin_refresh(300) == Refresh(first=4, candidates=268, keep=40)
    assert (request.count, request.recent_start, request.observed) == (40, 272, [])  # there was none before
    request.selection = DeviceSelection(SelectionTable(LIMITS, "cpu"), 2)
    assert request.visible_ends(305) == (4, 40, 272) and request.visible_tokens(305) == 4 + 40 + 33
    assert request.begin_refresh(320) == Refresh(4, 284, 40, old_count=40, old_recent_start=272, observed=0)
    assert (request.recent_start, request.observed) == (288, [320])
    assert request.begin_refresh(336).observed == 1
    request.release(tokens=400)
    assert (request.count, request.recent_start, request.observed) == (0, 0, [])


def test_dense_fast_and_slow_rows():
    metadata = PassMetadata(4, 5 * EVIDENCE_PAGE, "cpu")
    metadata.dense(0, 300)
    assert metadata.refresh(0, state().begin_refresh(300), line=2, stages=16) == 0
    metadata.dense(1, 3000)
    refresh = Refresh(4, 2700, 40, old_count=40, old_recent_start=272, observed=5)
    assert metadata.refresh(1, refresh, line=1, stages=0) == EVIDENCE_PAGE  # rows share no page
    metadata.fast(2, 305, (4, 40, 272), line=2)
    metadata.load(programs=64, splits=16, block=64)
    assert visible(metadata).tolist() == [300, 3000, 4 + 40 + 305 - 272, 1]
    assert metadata.refresh_rows.tolist() == [0, 1, -1, -1]
    assert metadata.page_to_row.tolist() == [0, 1, 1, 1, -1]
    old = metadata.rows[:, [pass_metadata.OLD_COUNT, pass_metadata.OLD_RECENT, pass_metadata.OBSERVED]]
    assert old.tolist() == [[0, 0, 0], [40, 272, 5], [0, 0, 0], [0, 0, 0]]
    metadata.clear()
    metadata.fast(0, 500, state(SFIOptions(policy="never", recent=32)).visible_ends(500))
    metadata.load()
    assert visible(metadata).tolist() == [4 + 500 - 464, 1, 1, 1]
    assert set(metadata.refresh_rows.tolist()) == {-1}


@given(
    lengths=st.lists(st.integers(1, 100_000), min_size=1, max_size=4),
    programs=st.integers(1, 700),
    splits=st.sampled_from([1, 2, 16, 64]),
)
def test_splits_cover_every_row(lengths, programs, splits):
    metadata = PassMetadata(4, EVIDENCE_PAGE, "cpu")
    for row, length in enumerate(lengths):
        metadata.dense(row, length)
    metadata.load(programs=programs, splits=splits, block=64)
    size = metadata.rows[:, pass_metadata.SPLIT].numpy()
    assert (size * splits >= visible(metadata)).all()
    assert (size > 0).all()


@given(rows=st.integers(1, 3000), programs=st.integers(1, 700))
def test_splits_of_a_pass_are_a_power_of_two_and_use_all_programs(rows, programs):
    splits = LIMITS.pass_splits(rows, programs)
    assert splits & (splits - 1) == 0 and 2 <= splits <= MOST_SPLITS
    assert splits == MOST_SPLITS or splits * rows >= programs
    assert splits * rows <= fast_parts(rows, programs)


@given(
    lengths=st.lists(st.integers(1, 100_000), max_size=4),
    wide=st.lists(st.tuples(st.integers(1, 63), st.integers(0, 100_000)), max_size=4),
    programs=st.integers(1, 60),
    wave=st.integers(1, 60),
    tile=st.sampled_from([1, 16, 32]),
)
def test_every_split_of_every_row_has_a_place_of_its_own(lengths, wide, programs, wave, tile):
    """wide: added queries and further tokens of each wide row."""
    queries = sum(added for added, _ in wide)
    rows = len(lengths) + len(wide) + queries + 3  # and padding
    pieces = Pieces(programs + rows, sum(-(-(added + 1) // tile) for added, _ in wide), tile, wave)
    metadata = PassMetadata(rows, EVIDENCE_PAGE, "cpu", pieces)
    tail = len(lengths) + len(wide)
    for row, length in enumerate(lengths + [more + added + 1 for added, more in wide]):
        metadata.dense(row, length)
    for row, (added, more) in enumerate(wide, len(lengths)):
        metadata.widen(row, tail, range(more, more + added))
        tail += added
    metadata.load(rows, programs, MOST_SPLITS, 64)
    table = metadata.rows.numpy()
    splits = -(-visible(metadata) // table[:, pass_metadata.SPLIT])
    places = np.concatenate(
        [first + np.arange(n) for first, n in zip(table[:, pass_metadata.PARTS], splits, strict=True)]
    )
    assert splits.max() <= MOST_SPLITS
    assert len(set(places.tolist())) == len(places) and places.max() < max(pieces.parts, 1)


def test_a_workspace_is_refused_with_its_numbers_or_allocated_as_stated():
    with pytest.raises(RuntimeError, match=r"\d+ MB beside the KV pool.*only 0 MB are free"):
        Workspace.allocate(LIMITS, "cpu", free_bytes=0)
    made = Workspace.allocate(LIMITS, "cpu", free_bytes=1 << 30)
    buffers = (made.buffers.out, made.buffers.lse, made.buffers.candidates, made.buffers.logits)
    used = sum(tensor.nbytes for tensor in (made.table.positions, made.table.slots, made.mass, made.scores, *buffers))
    assert used == pytest.approx(LIMITS.total_bytes, rel=0.05)


@given(st.integers(1, 3000), st.integers(0, 1 << 31))
def test_where_memory_is_short_fewer_requests_can_have_sfi(requests, free):
    wanted = replace(LIMITS, requests=requests, budget=4096)
    limits = wanted.within(free)
    assert min(requests, FEWEST) <= limits.requests <= requests
    room = free * (1 - SPARE)
    if limits.requests > min(requests, FEWEST):
        assert limits.total_bytes <= room
    if limits.requests < requests:
        assert limits.total_bytes + limits.line_bytes > room


def test_a_request_knows_the_coverage_of_finished_steps():
    table = SelectionTable(LIMITS, "cpu")
    selection = DeviceSelection(table, 2)
    sums = torch.tensor([4.5, 5.4, 2.7, 3.6])  # after refreshes 5, 6, 3 and 4, .9 each
    table.coverage[2] = torch.stack([sums, sums / 2], -1)[:, None, None]
    heads = LIMITS.layers, LIMITS.kv_heads
    assert selection.coverage(5).shape == (*heads, 2)
    assert selection.coverage(5)[0, 0].tolist() == pytest.approx([4.5, 2.25])
    assert selection.coverage(6)[0, 0].tolist() == pytest.approx([5.4, 2.7])
    request = state()
    request.selection = selection
    request.observed = [300, 316, 332, 348, 364, 380]
    request.release(tokens=380)  # the step at 380 tokens is under way
    total, number = request.coverage
    assert total is not None and number == 5
    torch.testing.assert_close(total, torch.tensor([4.5, 2.25]).expand(*heads, 2))


def test_lines_of_the_table_come_back():
    table = SelectionTable(LIMITS, "cpu")
    selections = [table.acquire() for _ in range(3)]
    assert table.acquire() is None
    selections[1].release()
    assert table.acquire().line == selections[1].line
    snapshot = selections[0].snapshot(5, 4, 64, ()).positions
    assert snapshot.shape == (2, 2, 5)
    table.positions[selections[0].line] = 7
    assert (snapshot == 0).all()


def test_evidence_room_is_counted_in_pages():
    room = PassRoom(3 * EVIDENCE_PAGE)
    taken = [room.take(state(), length) is not None for length in (1500, 1500, 500, 500)]
    assert taken == [True, False, True, False]  # two pages, two, one, one
