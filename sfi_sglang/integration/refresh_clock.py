"""How long decode passes with a refresh take: full attention of the slow rows, their evidence, the new selections.

On a GPU a pass has only been launched when its call returns, so events on its stream are read at a later pass, once the
device has passed them: nobody waits.
"""

import time
from collections import deque
from collections.abc import Callable
from typing import Any

import torch

from sfi_sglang.scheduling.row_plan import Step
from sfi_sglang.scheduling.step_planner import StepPlanner


class RefreshClock:
    """observe: takes seconds. wanted: does anybody want to know?"""

    def __init__(self, planner: StepPlanner, wanted: Callable[[], bool], observe: Callable[[float], None]) -> None:
        self.planner, self.wanted, self.observe = planner, wanted, observe
        self.under_way: deque[tuple[torch.cuda.Event, torch.cuda.Event]] = deque()

    def forward(self, original: Callable[..., Any], runner: Any, batch: Any, *args: Any, **kwargs: Any) -> Any:
        """AROUND ModelRunner.forward."""
        if not (self.refreshes(batch) and self.wanted()):
            return original(runner, batch, *args, **kwargs)
        if torch.device(runner.device).type == "cuda":
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            output = original(runner, batch, *args, **kwargs)
            end.record()
            self.under_way.append((start, end))
            self.read_passed()
            return output
        begin = time.perf_counter()
        output = original(runner, batch, *args, **kwargs)
        self.observe(time.perf_counter() - begin)
        return output

    def refreshes(self, batch: Any) -> bool:
        if not batch.forward_mode.is_decode():
            return False
        return any(row.step is Step.SLOW for row in self.planner.rows_for(batch.rids, batch.batch_size))

    def read_passed(self) -> None:
        """Of the passes that the device has finished."""
        while self.under_way and self.under_way[0][1].query():
            start, end = self.under_way.popleft()
            self.observe(start.elapsed_time(end) / 1000)
