"""How many tokens an `exact` request drafts, which rows verify them, and what comes of a verification."""

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sfi_sglang.api.exact import CHANCE_ENV, chance
from sfi_sglang.api.options import SFIOptions
from sfi_sglang.integration.draft_tokens import Checked, DraftTokens, judge
from sfi_sglang.scheduling.drafting import MOST_DRAFTS, Drafting
from sfi_sglang.scheduling.exact_steps import plan_exact, verify_together
from sfi_sglang.scheduling.pass_room import REPAIR_ROWS, PassRoom
from sfi_sglang.scheduling.request_state import RequestState
from sfi_sglang.scheduling.row_plan import RowPlan, Step
from sfi_sglang.scheduling.segments import SegmentTracker, Vocabulary
from sfi_sglang.selection.table import HostSelection

SELECTION = HostSelection(torch.zeros(1, 1, 0, dtype=torch.int64))
PROMPT = 100


def state(**options) -> RequestState:
    given = SFIOptions(budget=16, recent=16, exact=True, **options)
    made = RequestState(given, PROMPT, SegmentTracker(given, Vocabulary([])))
    made.selection = SELECTION
    return made


def steps(request: RequestState, count: int, room=lambda: PassRoom(None)) -> list[RowPlan]:
    """Passes in which every draft is accepted."""
    rows, settled = list[RowPlan](), PROMPT + 1
    for _ in range(count):
        together = verify_together([(request, 1000)], room())
        rows.append(plan_exact(request, settled, room(), 1000, together))
        settled += 0 if rows[-1].drafts else rows[-1].verifies + 1
    return rows


def test_drafts_come_before_the_pass_that_verifies_them():
    rows = steps(state(), 10)
    drafts = Drafting().length()
    assert [row.step for row in rows[: drafts + 1]] == [Step.FAST] * drafts + [Step.SLOW]
    assert [row.length for row in rows[: drafts + 1]] == list(range(PROMPT + 1, PROMPT + 2 + drafts))
    slow = rows[drafts]
    assert slow.verifies == drafts and list(slow.repair.positions) == list(range(PROMPT, PROMPT + drafts))
    assert slow.settled == PROMPT + 1, "a selection is made among tokens that stay"
    assert rows[drafts + 1].settled == PROMPT + 2 + drafts and rows[drafts + 1].pending == 0


@given(st.integers(1, 40))
def test_no_reply_gets_longer_than_it_may(most):
    rows, outputs = list[RowPlan](), 1
    request = state()
    while outputs < most:
        rows.append(plan_exact(request, PROMPT + outputs, PassRoom(None), most - outputs))
        outputs += 0 if rows[-1].drafts else rows[-1].verifies + 1
    assert outputs == most


@pytest.mark.parametrize("policy", ["sentence", "never"])
def test_without_rows_to_spare_nothing_is_drafted(policy):
    rows = steps(state(policy=policy), 5, lambda: PassRoom(None, spare_rows=0))
    assert all(not row.drafts and not row.verifies for row in rows)


def test_verifications_that_do_not_fit_together_wait_and_are_cut_at_last():
    requests = [state() for _ in range(REPAIR_ROWS + 1)]
    for _ in range(Drafting().length()):
        assert all(plan_exact(request, PROMPT + 1, PassRoom(None), 1000).drafts for request in requests)
    room = PassRoom(None)
    rows = [plan_exact(request, PROMPT + 1, room, 1000, together=True) for request in requests]
    assert [row.drafts for row in rows] == [False] * REPAIR_ROWS + [True]
    few = PassRoom(None, spare_rows=2)
    last = requests[-1]
    cut = plan_exact(last, PROMPT + 1, few, 1000, together=True)
    assert cut.verifies == 2 and cut.pending == Drafting().length() + 1 and cut.length == PROMPT + 3
    assert last.drafting.pending == 0, "what was not verified is thrown away"


def test_copies_are_verified_at_once_as_far_as_there_is_room():
    request = state()
    request.drafting.offer = 12
    row = plan_exact(request, PROMPT + 1, PassRoom(None), 1000)
    assert row.copied and row.verifies == 12 and row.length == PROMPT + 13 and row.pending == 0
    assert request.drafting.verifying and not request.drafting.offer
    assert steps(request, 1)[0].drafts and not request.drafting.verifying, "an offer is for one pass"
    for room, left in ((PassRoom(None, spare_rows=3), 1000), (PassRoom(None), 4)):
        other = state()
        other.drafting.offer = 12
        assert plan_exact(other, PROMPT + 1, room, left).verifies == 3
    other.drafting.offer = 12
    assert plan_exact(other, PROMPT + 1, PassRoom(None, spare_rows=0), 1000).verifies == 0


def test_copies_count_apart():
    drafting = Drafting()
    length = drafting.length()
    for _ in range(20):
        drafting.verified(15, 0, True)
    assert drafting.length() == length and drafting.copying.gain < 1
    drafting.verified(15, 9, True)
    assert (drafting.drafted, drafting.accepted, drafting.copied) == (21 * 15, 9, 9)


def test_without_room_for_evidence_a_row_verifies_and_keeps_its_selection():
    rows = steps(state(), Drafting().length() + 1, lambda: PassRoom(0))
    assert rows[-1].step is Step.DENSE and rows[-1].verifies


def test_drafts_get_longer_while_they_pass_and_shorter_when_they_do_not():
    drafting = Drafting()
    first = drafting.length()
    for _ in range(10_000):  # a text that repeats itself
        drafting.verified(drafting.length(), drafting.length(), False)
    assert first < drafting.length() == MOST_DRAFTS
    for _ in range(10_000):
        drafting.verified(drafting.length(), 0, False)
    assert drafting.length() == 1


def verdicts(rows: list[tuple[int, list[int], list[int]]]) -> list[list[int]]:
    """rows: own token, the drafts verified, what full attention chooses in place of each; no drafts: a plain row."""
    flat = [
        (i, place, *pair) for i, (_, *both) in enumerate(rows) for place, pair in enumerate(zip(*both, strict=True))
    ]
    requests, places, following, choices = torch.tensor(flat).reshape(-1, 4).T
    own, emits = torch.tensor([row[0] for row in rows]), torch.ones(len(rows), dtype=torch.int32)
    counts = [len(row[1]) for row in rows]
    found = judge(own, emits, torch.tensor(counts), max(counts), Checked(requests, places, choices, following))
    assert found.last.tolist() == [
        row[count - 1] for row, count in zip(found.tokens.tolist(), found.counts, strict=True)
    ]
    return [row[:count] for row, count in zip(found.tokens.tolist(), found.counts.tolist(), strict=True)]


def test_drafts_pass_up_to_the_first_that_full_attention_would_not_have_chosen():
    assert verdicts([(9, [5, 6, 7], [5, 6, 7]), (8, [], []), (4, [5, 6, 7], [5, 1, 7]), (3, [2], [1])]) == [
        [5, 6, 7, 9],
        [8],
        [5, 1],
        [1],
    ]


def test_rows_that_only_repair_are_no_drafts():
    repairing = Checked(
        torch.tensor([0, 0, 1]), torch.tensor([-1, -1, 0]), torch.tensor([5, 6, 7]), torch.tensor([5, 6, 7])
    )
    found = judge(torch.tensor([1, 2]), torch.tensor([1, 1], dtype=torch.int32), torch.tensor([0, 1]), 1, repairing)
    assert found.counts.tolist() == [1, 2] and found.tokens.tolist() == [[1, 0], [7, 2]]


def test_a_row_that_drafts_gets_no_token_and_goes_on_with_its_draft():
    none = torch.empty(0, dtype=torch.int64)
    found = judge(torch.tensor([6]), torch.tensor([0], dtype=torch.int32), torch.tensor([0]), 0, Checked(*[none] * 4))
    assert found.counts.tolist() == [0] and found.last.tolist() == [6]


@pytest.mark.parametrize("value", ["", "often", "1.5", "-0.1", "nan"])
def test_a_wrong_chance_is_refused(monkeypatch, value):
    monkeypatch.setenv(CHANCE_ENV, value)
    with pytest.raises(ValueError, match="is no share, from 0 to 1"):
        chance()


def test_the_benchmark_decides_by_chance(monkeypatch):
    drafts = [1] * 15
    for share, count in (("0", 1), ("1", 16)):
        monkeypatch.setenv(CHANCE_ENV, share)
        assert len(verdicts([(9, drafts, [2] * 15)])[0]) == count


def running(drafting: Drafting, prompt: list[int], outputs: list[int]) -> SimpleNamespace:
    return SimpleNamespace(sfi=SimpleNamespace(drafting=drafting), origin_input_ids=prompt, output_ids=outputs)


@pytest.mark.parametrize(("lag", "blind"), [(0, False), (5, False), (0, True)])
def test_offers_of_copies_lie_where_the_pass_looks_for_drafts(monkeypatch, lag, blind):
    """lag: of the last tokens, those that the host has not read. blind: a blind pass has drafted a token after them."""
    text = [*range(100, 160), *range(100, 120)]
    kept = DraftTokens()
    kept.allocate(4, "cpu")
    for position in range(len(text) - lag - 1, len(text) - 1 + blind):
        kept.note(torch.tensor([2]), torch.tensor([position]), torch.tensor([text[position]]))
    drafting, others = Drafting(verifying=not blind, blind=blind, pending=int(blind)), Drafting()
    known = text[: len(text) - lag]
    reqs = [running(others, text, []), running(drafting, known[:70], known[70:])]
    batch = SimpleNamespace(reqs=reqs, req_pool_indices=torch.tensor([1, 2]))
    batch.seq_lens = torch.tensor([len(text) - 1] * 2)
    following = torch.tensor([7 if blind else text[-1]] * 2, dtype=torch.int32)
    copies = kept.find_copies(batch, [len(text)] * 2, following)
    kept.note_copies(batch.req_pool_indices, copies)
    assert drafting.offer == MOST_DRAFTS and not others.offer
    places = torch.arange(len(text) - 1, len(text) + MOST_DRAFTS)
    assert kept.at(torch.tensor([2] * len(places)), places).tolist() == list(range(119, 120 + MOST_DRAFTS))
    monkeypatch.setenv(CHANCE_ENV, "0.5")
    drafting.offer = 0
    assert not kept.find_copies(batch, [len(text)] * 2, following)
    assert not drafting.offer, "copies would pass by lot"


def test_a_blind_pass_drafts_and_copies_take_the_place_of_its_draft():
    request = state()
    request.drafting.verifying = True
    blind = plan_exact(request, PROMPT + 9, PassRoom(None), 1000, blind=True)
    assert blind.drafts and blind.pending == 0 and request.drafting.blind and request.drafting.pending == 1
    request.drafting.offer = 12
    row = plan_exact(request, PROMPT + 5, PassRoom(None), 1000)
    assert row.copied and row.verifies == 12 and row.length == PROMPT + 17 and row.pending == 1
    assert not request.drafting.blind and not request.drafting.pending
    request.drafting.verifying = True
    plan_exact(request, PROMPT + 30, PassRoom(None), 1000, blind=True)
    row = plan_exact(request, PROMPT + 20, PassRoom(None), 1000)
    assert row.drafts and row.pending == 1, "nothing was found: the draft counts"


def test_drafts_are_kept_by_line_and_position():
    kept = DraftTokens()
    kept.allocate(4, "cpu")
    lines = torch.tensor([1, 3])
    for place in range(MOST_DRAFTS + 1):
        kept.note(lines, torch.tensor([200 + place, 31 + place]), torch.tensor([place, 100 + place]))
    assert kept.at(lines, torch.tensor([200, 31 + MOST_DRAFTS])).tolist() == [0, 100 + MOST_DRAFTS]
