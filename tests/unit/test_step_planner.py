"""Which steps are dense, fast and slow, from the prompt's last chunk to the end of a request."""

from itertools import pairwise

import torch

from sfi_sglang.api.options import EXTEND_TAIL, SFIOptions
from sfi_sglang.scheduling.pass_room import PassRoom
from sfi_sglang.scheduling.request_state import RequestState, without_exclusion
from sfi_sglang.scheduling.row_plan import Repair, Step
from sfi_sglang.scheduling.segments import SegmentTracker, Vocabulary
from sfi_sglang.scheduling.step_planner import StepPlanner, plan_decode, plan_extend, plan_repair
from sfi_sglang.selection import selector
from sfi_sglang.selection.snapshot_store import SnapshotStore
from sfi_sglang.selection.table import HostSelection

VOCABULARY = Vocabulary(["word", "."])
ROOM = PassRoom(None)
SELECTION = HostSelection(torch.zeros(1, 1, 1, dtype=torch.int64))


def state(prompt: int, **options) -> RequestState:
    chosen = SFIOptions(**{"sink": 4, "budget": 40, "recent": 20} | options)
    return RequestState(chosen, prompt, SegmentTracker(chosen, VOCABULARY))


def test_the_last_chunk_selects_and_earlier_ones_keep_their_queries():
    request = state(prompt=300)
    steps = [plan_extend(request, end - 100, end, total=300).step for end in (100, 200, 300)]
    assert steps == [Step.CHUNK, Step.CHUNK, Step.SLOW]


def test_a_short_prompt_needs_no_selection_and_stays_dense_until_it_outgrows_the_budget():
    request = state(prompt=60)
    assert plan_extend(request, 0, 60, total=60).step is Step.DENSE
    steps = []
    for i in range(8):
        steps.append(plan_decode(request, [0] * 8, length=61 + i, room=ROOM).step)
        if steps[-1] is Step.SLOW:
            request.selection = SELECTION
    assert steps == [Step.DENSE] * 4 + [Step.SLOW] + [Step.FAST] * 3  # 4 + 40 + 20 = 64 fit


def sparse_tokens(request: RequestState, *ends: int) -> list[int]:
    """Of the passes of a prompt that is cached up to the first of `ends`."""
    return [plan_extend(request, start, end, ends[-1]).sparse for start, end in pairwise(ends)]


def test_sparse_extend_wants_a_long_cached_prefix_and_leaves_the_end_dense():
    request = state(prompt=700, extend="sparse")
    assert sparse_tokens(request, 400, 500, 630, 700) == [100, 130, 6]
    assert request.sparse_tokens == 700 - EXTEND_TAIL - 400
    request.release(700)  # retracted, and found again in a shorter part of the cache
    assert sparse_tokens(request, 350, 700) == [286] and request.sparse_tokens == 286
    assert sparse_tokens(state(prompt=700, extend="sparse"), 0, 500, 700) == [0, 0]  # cold
    assert sparse_tokens(state(prompt=700, extend="sparse"), 320, 700) == [0]  # 4 + 40 + 20, five times
    assert sparse_tokens(state(prompt=700), 400, 700) == [0]
    assert sparse_tokens(state(prompt=450, extend="sparse"), 400, 450) == [0]  # all of it is the end


def test_refreshes_follow_the_segments():
    request = state(prompt=100, min_gap=2, max_segment=5)
    plan_extend(request, 0, 100, total=100)
    request.selection = SELECTION
    steps = [plan_decode(request, [0] * 20, length=101 + i, room=ROOM).step for i in range(12)]
    assert [i for i, step in enumerate(steps) if step is Step.SLOW] == [4, 9]


def test_policy_never_is_a_window():
    request = state(prompt=100, policy="never")
    assert plan_extend(request, 0, 100, total=100).step is Step.DENSE
    assert plan_decode(request, [], length=101, room=ROOM).step is Step.FAST


def test_a_released_request_forgets_and_starts_again_slow():
    request = state(prompt=100)
    request.selection = SELECTION
    request.query_tail[0] = torch.zeros(1)
    request.release(tokens=101)
    assert request.selection is None and not request.query_tail
    assert plan_decode(request, [], length=101, room=ROOM).step is Step.SLOW


def test_summary_counts_used_steps_only():
    request = state(prompt=100)
    request.steps = bytearray([1, 0, 0, 1])
    request.observed = [101, 102, 104]
    coverages = tuple(torch.tensor([[both, both]]) for both in ((0.5, 0.2), (1.0, 0.6), (0.1, 0.1)))
    request.selection = HostSelection(SELECTION.positions, coverages)
    request.release(tokens=104)  # the step at 104 was launched in advance, and nobody uses it
    assert request.summary(outputs=4) == {
        "selector": "span",
        "slow_steps": 1,
        "fast_steps": 2,
        "budget": 40,
        "prompt_tokens": 100,
        "inherited_tokens": 0,
        "sparse_extend_tokens": 0,
        "coverage": 0.75,
        "recall": 0.4,
        "agreement": None,
        "checked_tokens": 0,
        "agreed_tokens": 0,
    }
    assert state(prompt=1).summary(outputs=0)["coverage"] is None


def test_a_plan_never_serves_another_batch():
    planner = StepPlanner(SnapshotStore(1 << 20))
    planner.rids, planner.rows = ["a"], [plan_extend(state(prompt=300), 0, 100, 300)]
    assert planner.rows_for(["a"], 1)[0].step is Step.CHUNK
    assert [row.step for row in planner.rows_for(["b", "c"], 2)] == [Step.DENSE] * 2
    assert [row.step for row in planner.rows_for(None, 1)] == [Step.DENSE]


def test_a_refresh_without_room_waits_and_a_first_one_decodes_densely():
    none = PassRoom(0)
    request = state(prompt=100, max_segment=2, min_gap=1)
    assert plan_decode(request, [0], length=101, room=none).step is Step.DENSE  # no selection to go on with
    assert plan_decode(request, [0] * 2, length=102, room=PassRoom(1024)).step is Step.SLOW
    request.selection = SELECTION
    steps = [plan_decode(request, [0] * (3 + i), length=103 + i, room=none).step for i in range(4)]
    assert steps == [Step.FAST] * 4  # due since the second
    assert plan_decode(request, [0] * 8, length=107, room=PassRoom(1024)).step is Step.SLOW


def test_tensor_parallel_ranks_select_alike():
    """Without exclusion no stage looks across KV heads: a rank's heads are selected as they are in the whole model."""
    options = without_exclusion(SFIOptions(selector="paper"))
    assert options.selector.name() == "agreement+prior+nms"
    log_f = torch.randn(3, 4, 500, generator=torch.Generator().manual_seed(0)).log_softmax(-1)
    whole = selector.select(log_f, 16, 40, options.selector)
    ranks = [selector.select(part, 16, 40, options.selector) for part in log_f.chunk(2, dim=1)]
    assert torch.equal(torch.cat(ranks, dim=1), whole)


def test_a_slow_row_repairs_what_fast_steps_left_oldest_first():
    request = state(prompt=100, min_gap=1, max_segment=5)
    plan_extend(request, 0, 100, total=100)
    request.selection = SELECTION
    outputs = list(range(1000, 1020))
    rows = [plan_decode(request, outputs, length=101 + i, room=ROOM) for i in range(5)]
    assert [row.step for row in rows] == [Step.FAST] * 4 + [Step.SLOW] and request.exact == 100
    assert [row.repair for row in rows[:4]] == [None] * 4
    # the token after the fourth is known to the device alone
    assert rows[4].repair == Repair(100, (1000, 1001, 1002, 1003), (1001, 1002, 1003))
    assert plan_repair(request, outputs, 105, 2) == Repair(100, (1000, 1001), (1001, 1002))
    assert plan_repair(request, outputs, 105, 0) is None
    request.repaired(105, 102, torch.tensor(1))
    assert request.exact == 102
    request.repaired(105, 104, torch.tensor(2))
    assert request.exact == 105
    request.release(tokens=106)
    assert request.agreed == (3, 4)
    summary = request.summary(outputs=6)
    assert [summary[key] for key in ("checked_tokens", "agreed_tokens", "agreement")] == [4, 3, 0.75]


def test_repairs_that_do_not_fit_together_take_turns():
    room = PassRoom(None, spare_rows=6)
    requests = [state(prompt=100) for _ in range(3)]
    for request in requests:
        request.exact = 100
    assert room.take(requests[0], 105) == 4
    assert room.take(requests[1], 105) is None  # two rows are left
    assert room.take(requests[2], 103) == 2
    assert PassRoom(None, spare_rows=3).take(requests[1], 105) == 3  # alone it takes what there is
    assert PassRoom(None, spare_rows=0).take(requests[1], 105) == 0
    without = state(prompt=100, repair=False)
    assert PassRoom(None, spare_rows=6).take(without, 105) == 0


def test_dense_steps_keep_an_exact_context_exact():
    request = state(prompt=60)
    plan_extend(request, 0, 60, total=60)
    for i in range(3):
        assert plan_decode(request, [0] * 8, length=61 + i, room=ROOM).step is Step.DENSE
    assert request.exact == 63
    request.exact = 50  # a fast step came before
    plan_decode(request, [0] * 8, length=64, room=ROOM)
    assert request.exact == 50
