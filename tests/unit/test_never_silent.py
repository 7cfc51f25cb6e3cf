"""What could make an SFI request wrong or dense without a word ends it with an error, or is left out of the store."""

from types import SimpleNamespace

import pytest
import torch

from sfi_sglang.api.options import SFIOptions
from sfi_sglang.attention.prefill_observer import PrefillObserver
from sfi_sglang.attention.workspace import Workspace
from sfi_sglang.scheduling.request_state import RequestState
from sfi_sglang.scheduling.row_plan import RowPlan, Step
from sfi_sglang.scheduling.segments import SegmentTracker, Vocabulary
from sfi_sglang.scheduling.step_planner import StepPlanner
from sfi_sglang.selection.limits import Limits
from sfi_sglang.selection.snapshot_store import SnapshotStore
from sfi_sglang.selection.table import NO_LINE, HostSelection

OPTIONS = SFIOptions(budget=16, recent=16, sink=2, carry="inherit")
IDS = list(range(700))
MODE = SimpleNamespace(is_decode=lambda: False, is_extend=lambda: True)


def state() -> RequestState:
    return RequestState(OPTIONS, len(IDS), SegmentTracker(OPTIONS, Vocabulary([])))


def request(embeds=None, sfi: bool = True) -> SimpleNamespace:
    """As much of SGLang's `Req` as is looked at."""
    params = SimpleNamespace(custom_params={"sfi": OPTIONS.flat()} if sfi else None)
    return SimpleNamespace(
        rid="a", origin_input_ids=IDS, output_ids=[], input_embeds=embeds, extra_key=None, cache_salt=None,
        lora_id=None, sampling_params=params, to_finish=None, kv=SimpleNamespace(req_pool_idx=0),
        sfi=state() if sfi else None,
    )  # fmt: skip


def published(req: SimpleNamespace) -> SnapshotStore:
    store, left = SnapshotStore(1 << 20), state()
    left.begin_refresh(len(IDS))
    left.selection = HostSelection(torch.arange(2, 18).expand(1, 1, -1))
    left.publish(req, store)
    return store


@pytest.mark.parametrize("giver", [None, [[0.0]]])
@pytest.mark.parametrize("taker", [None, [[0.0]]])
def test_embeddings_of_equal_ids_share_no_memory(giver, taker):
    heir = state()
    heir.inherit(request(taker), published(request(giver)))
    assert (heir.inherited is not None) == (giver is None and taker is None)


def planned(planner: StepPlanner, *reqs: SimpleNamespace) -> None:
    lengths = [len(IDS)] * len(reqs)
    batch = SimpleNamespace(forward_mode=MODE, reqs=list(reqs), prefix_lens=[0] * len(reqs), extend_lens=lengths)
    planner.plan(batch, ())


def test_a_tokenizer_that_cannot_decode_refuses_sfi_and_nothing_else():
    planner = StepPlanner(SnapshotStore(0))
    planner.read_vocabulary(object())
    assert "the tokenizer cannot decode its vocabulary" in planner.refusal
    asked, dense = request(), request(sfi=False)
    planned(planner, asked, dense)
    assert "the tokenizer cannot decode" in asked.to_finish.message and dense.to_finish is None


def test_without_a_line_of_the_table_the_request_ends():
    limits = Limits(1, 4, 2, 64, 1, 1, OPTIONS.budget, len(IDS))
    workspace = Workspace.allocate(limits, "cpu", 1 << 40)
    observer = PrefillObserver(workspace, lambda _: torch.zeros(8, 2, 64), torch.zeros(1, len(IDS), dtype=torch.int32))
    first, second = request(), request()
    for req in (first, second):
        observer.begin([RowPlan(Step.SLOW, len(IDS), req.sfi, 0)], [4])
    assert first.sfi.failure is None and second.sfi.failure == NO_LINE
    planner = StepPlanner(SnapshotStore(0))
    planner.vocabulary = Vocabulary([])
    planned(planner, first, second)
    assert first.to_finish is None and second.to_finish.message == NO_LINE
