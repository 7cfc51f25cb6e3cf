"""The clock of refreshes on a GPU: what the device took, and nobody waits for it."""

import time
from types import SimpleNamespace

import pytest
import torch

from sfi_sglang.integration.refresh_clock import RefreshClock
from sfi_sglang.scheduling.row_plan import RowPlan, Step

pytestmark = pytest.mark.gpu


def test_the_clock_says_what_the_device_took_and_does_not_wait():
    planner = SimpleNamespace(rows_for=lambda rids, size: [RowPlan(Step.SLOW, 9)] * size)
    observed: list[float] = []
    clock = RefreshClock(planner, lambda: True, observed.append)
    square = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream()
    with torch.cuda.graph(graph):
        for _ in range(100):  # about 0.15 s of an H200
            square @ square
    batch = SimpleNamespace(rids=["a"], batch_size=1, forward_mode=SimpleNamespace(is_decode=lambda: True))
    runner = SimpleNamespace(device="cuda")

    def replay(*_):
        graph.replay()

    with torch.cuda.stream(stream):
        replay()
        torch.cuda.synchronize()
        begin = time.perf_counter()
        replay()
        torch.cuda.synchronize()
        took = time.perf_counter() - begin
        begin = time.perf_counter()
        for _ in range(4):
            clock.forward(replay, runner, batch)
        launched = time.perf_counter() - begin
        assert launched < took / 4 and observed == [], (launched, took)
        torch.cuda.synchronize()
        clock.read_passed()
    assert len(observed) == 4 and clock.under_way == type(clock.under_way)()
    assert all(seconds == pytest.approx(took, rel=0.2) for seconds in observed), (observed, took)
