"""Refreshing beside the pass, part by part, is the same as merging all evidence first and selecting once."""

import math

import pytest
import torch
from conftest import GPU

from sfi_sglang.device_memory import DeviceMemory, Shape
from sfi_sglang.kernels import evidence
from sfi_sglang.options import SFIOptions
from sfi_sglang.refresh import PARTS, Refresh
from sfi_sglang.row_table import RowTable

DEVICE = "cuda" if GPU else "cpu"
CONTEXT = 700
OPTIONS = SFIOptions(budget=96, sink=4, recent=32)


def memory_and_table(layers: int):
    """Of a batch of two, the first one dense, the second slow."""
    shape = Shape(layers, heads=4, kv_heads=2, dim=64, requests=2, graph_rows=2, budget=96, context=1024)
    memory = DeviceMemory.allocate(shape, DEVICE, 1 << 40)
    table = RowTable(2, shape.evidence_tokens, DEVICE)
    table.dense(0, CONTEXT)
    table.dense(1, CONTEXT)
    line = memory.table.acquire()
    assert line is not None
    table.slow_row(1, CONTEXT, OPTIONS, line)
    table.load()
    return memory, table, line


def captured(run):
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


@pytest.mark.parametrize("layers", [1, PARTS - 1, PARTS, 2 * PARTS + 1])
@pytest.mark.parametrize("graph", [False, pytest.param(True, marks=pytest.mark.gpu)])
def test_part_by_part_beside_the_pass_is_all_at_once_after_it(layers, graph):
    memory, table, line = memory_and_table(layers)
    logits = torch.randn(layers, *memory.buffers.logits.shape, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    lse = logits[:, :, : OPTIONS.candidates(CONTEXT)].mul(math.log(2)).logsumexp(2) / math.log(2)  # base 2

    def attend(layer: int) -> None:
        memory.buffers.logits.copy_(logits[layer])
        memory.buffers.candidate_lse[1] = lse[layer]

    for layer in range(layers):
        attend(layer)
        evidence.merge_logits(memory.buffers, table.rows, table.owners, memory.scores[0, layer])
    memory.refresh(table, 2, 2)
    expected = line.snapshot()
    assert len({tuple(row.tolist()) for row in expected.flatten(0, 1)}) == 2 * layers, "all selections differ"

    refresh = Refresh(memory, table)

    def run() -> None:
        for layer in range(layers):
            refresh.before(layer)
            attend(layer)
            refresh.after(layer, 2)

    if graph:
        run = captured(run)
    memory.table.positions.zero_()
    run()
    assert torch.equal(line.snapshot(), expected)
