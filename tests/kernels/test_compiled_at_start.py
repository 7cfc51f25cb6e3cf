"""A server compiles at its start what prompts run: none waits for a kernel. Triton compiles a kernel anew for other
constants, and for arguments that are aligned otherwise."""

import pytest
import torch
from triton.runtime.interpreter import InterpretedFunction

from sfi_sglang.api.options import EXTEND_TAIL, SFIOptions
from sfi_sglang.attention.layers import CoveredLayers
from sfi_sglang.attention.prefill_observer import PrefillObserver
from sfi_sglang.attention.sparse_prefill import SparsePrefill
from sfi_sglang.attention.workspace import Workspace
from sfi_sglang.scheduling.request_state import RequestState
from sfi_sglang.scheduling.row_plan import RowPlan, Step
from sfi_sglang.scheduling.segments import SegmentTracker, Vocabulary
from sfi_sglang.selection.limits import Limits
from sfi_sglang.selection.scoring import Scoring
from tests.helpers import GPU

pytestmark = [pytest.mark.interpreted, pytest.mark.skipif(GPU, reason="launches are written down by the interpreter")]
HEADS, KV, DIM, CONTEXT = 8, 2, 64, 9000
SCORING = Scoring(DIM**-0.5)


def version(function, arguments: dict) -> tuple:
    """What Triton would compile for these arguments of a launch."""
    free = function.kwargs["do_not_specialize"] or ()
    found = [function.fn.__name__]
    for name, value in arguments.items():
        if isinstance(value, torch.Tensor):
            found.append((name, value.dtype, value.data_ptr() % 16 == 0))
        elif isinstance(value, float):
            found.append(name)
        elif isinstance(value, int) and not name.isupper():
            found.append(name if name in free else (name, value == 1, value % 16 == 0))
        else:
            found.append((name, value))
    return tuple(found)


@pytest.fixture
def launched(monkeypatch):
    versions, run = set(), InterpretedFunction.run

    def noted(self, *given, grid, warmup=False, **named):
        arguments = dict(zip(self.arg_names, given, strict=False))
        arguments |= {name: value for name, value in named.items() if name in self.arg_names}
        versions.add(version(self, arguments))
        return run(self, *given, grid=grid, warmup=warmup, **named)

    monkeypatch.setattr(InterpretedFunction, "run", noted)
    return versions


def test_prompts_run_what_was_compiled_at_the_start(launched):
    limits = Limits(1, HEADS, KV, DIM, requests=3, graph_rows=5, budget=256, context=CONTEXT)
    workspace = Workspace.allocate(limits, "cpu", 1 << 40)
    keys, values = torch.randn(2, CONTEXT, KV, DIM).half()
    lines = torch.arange(CONTEXT, dtype=torch.int32).repeat(3, 1)
    observer = PrefillObserver(workspace, lambda _: keys, lines)
    sparse = SparsePrefill(CoveredLayers((0,), HEADS, KV, DIM), lines, 8)
    observer.compile(SCORING, torch.half)
    sparse.compile(keys, values, SCORING, torch.half)
    at_start = set(launched)
    for line, (prefix, new, queries) in enumerate([(0, 1503, 4), (6000, 333, 1), (7001, 1290, 16)]):
        options = SFIOptions(budget=256, recent=64, queries=queries, extend="sparse")
        state = RequestState(options, prefix + new, SegmentTracker(options, Vocabulary([])))
        row = RowPlan(Step.SLOW, prefix + new, state, line, sparse=new - EXTEND_TAIL if prefix else 0)
        q = torch.randn(new, HEADS, DIM).half()
        observer.begin([row], [new])
        if sparse.plan([row], [new]):
            sparse.run(q, keys, values, SCORING, torch.empty_like(q))
        observer.observe(q, 0, SCORING)
        assert launched == at_start, line
