"""What the host tells the kernels, and what they take beside the KV pool."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sfi_sglang import row_table
from sfi_sglang.device_memory import DeviceMemory, MemoryTable, Shape, TableMemory
from sfi_sglang.kernels.rows import TILE
from sfi_sglang.options import SFIOptions
from sfi_sglang.plan import EvidenceRoom
from sfi_sglang.row_table import RowTable

OPTIONS = SFIOptions(budget=40, recent=20)
SHAPE = Shape(layers=2, heads=4, kv_heads=2, dim=64, requests=3, graph_rows=4, budget=64, context=5000)


def visible(table: RowTable) -> np.ndarray:
    lines = table.rows.numpy()
    columns = (row_table.SINK, row_table.COUNT, row_table.LENGTH, row_table.RECENT)
    sink, count, length, recent = (lines[:, column] for column in columns)
    return sink + count + length - recent


def test_dense_fast_and_slow_rows():
    table, memory = RowTable(4, 5 * TILE, "cpu"), TableMemory(MemoryTable(SHAPE, "cpu"), 2)
    table.dense(0, 300)
    assert table.slow_row(0, 300, OPTIONS, memory) == 0
    assert (memory.count, memory.recent_start) == (40, 272)
    assert memory.observed == []  # there was no old memory yet
    table.dense(1, 3000)
    assert table.slow_row(1, 3000, OPTIONS, TableMemory(memory.table, 1)) == TILE  # rows share no page
    table.fast(2, 305, OPTIONS, memory)
    table.load(programs=64, splits=16, block=64)
    assert visible(table).tolist() == [300, 3000, 4 + 40 + 305 - 272, 1]
    assert table.slow_rows.tolist() == [0, 1, -1, -1]
    assert table.owners.tolist() == [0, 1, 1, 1, -1]
    table.clear()
    table.fast(0, 500, SFIOptions(policy="never", recent=32), None)
    table.load()
    assert visible(table).tolist() == [4 + 500 - 464, 1, 1, 1]
    assert set(table.slow_rows.tolist()) == {-1}


@given(
    lengths=st.lists(st.integers(1, 100_000), min_size=1, max_size=4),
    programs=st.integers(1, 700),
    splits=st.sampled_from([1, 2, 16, 64]),
)
def test_splits_cover_every_row(lengths, programs, splits):
    table = RowTable(4, TILE, "cpu")
    for row, length in enumerate(lengths):
        table.dense(row, length)
    table.load(programs, splits, block=64)
    size = table.rows[:, row_table.SPLIT].numpy()
    assert (size * splits >= visible(table)).all()
    assert (size > 0).all()


@given(rows=st.integers(1, 64), programs=st.integers(1, 700))
def test_splits_of_a_pass_are_a_power_of_two_within_the_buffers_and_use_all_programs(rows, programs):
    splits = SHAPE.pass_splits(rows, programs)
    assert splits & (splits - 1) == 0 and 2 <= splits <= SHAPE.splits
    assert splits == SHAPE.splits or splits * rows * SHAPE.kv_heads >= programs


def test_memory_is_refused_with_its_numbers_or_allocated_as_stated():
    with pytest.raises(RuntimeError, match=r"\d+ MB beside the KV pool.*only 0 MB are free"):
        DeviceMemory.allocate(SHAPE, "cpu", free_bytes=0)
    memory = DeviceMemory.allocate(SHAPE, "cpu", free_bytes=1 << 30)
    buffers = (memory.buffers.out, memory.buffers.lse, memory.buffers.candidates, memory.buffers.logits)
    tables = (memory.table.positions, memory.table.slots, memory.mass)
    used = sum(tensor.nbytes for tensor in (*tables, memory.scores, *buffers))
    assert used == pytest.approx(SHAPE.total_bytes, rel=0.05)


def test_a_request_knows_the_coverage_of_finished_steps():
    table, memory = RowTable(1, 2 * TILE, "cpu"), TableMemory(MemoryTable(SHAPE, "cpu"), 2)
    assert memory.coverage(10_000) == (0.0, 0)
    for length in (300, 316, 332, 348, 364, 380, 396):
        table.clear()
        table.dense(0, length)
        table.slow_row(0, length, OPTIONS, memory)
    old = table.lines[0, [row_table.OLD_COUNT, row_table.OLD_RECENT, row_table.OBSERVED]]
    assert old.tolist() == [40, 352, 5]
    memory.table.coverage[2] = torch.tensor([4.5, 5.4, 2.7, 3.6])  # .9 a step
    assert memory.coverage(396) == (pytest.approx(4.5), 5)  # the step at 396 tokens is under way
    assert memory.coverage(397) == (pytest.approx(5.4), 6)


def test_lines_of_the_table_come_back():
    table = MemoryTable(SHAPE, "cpu")
    memories = [table.acquire() for _ in range(3)]
    assert table.acquire() is None
    memories[1].release()
    assert table.acquire().row == memories[1].row
    memories[0].count = 5
    snapshot = memories[0].snapshot()
    assert snapshot.shape == (2, 2, 5)
    table.positions[memories[0].row] = 7
    assert (snapshot == 0).all()


def test_evidence_room_is_counted_in_pages():
    room = EvidenceRoom(3 * TILE)
    assert room.take(1500, OPTIONS)  # two pages
    assert not room.take(1500, OPTIONS)
    assert room.take(500, OPTIONS)
    assert not room.take(500, OPTIONS)
