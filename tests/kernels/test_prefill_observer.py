"""Prompts that end in one prefill pass: each gets what it would alone, however little room there is."""

import torch

from sfi_sglang.api.options import EVIDENCE_PAGE, PROMPT_QUERIES, SFIOptions
from sfi_sglang.attention import prefill_observer
from sfi_sglang.attention.prefill_observer import PrefillObserver
from sfi_sglang.attention.reference import grouped_queries
from sfi_sglang.attention.workspace import Workspace
from sfi_sglang.scheduling.request_state import RequestState
from sfi_sglang.scheduling.row_plan import RowPlan, Step
from sfi_sglang.scheduling.segments import SegmentTracker, Vocabulary
from sfi_sglang.selection import selector
from sfi_sglang.selection.limits import Limits
from sfi_sglang.selection.scoring import Scoring
from tests.helpers import GPU

DEVICE = "cuda" if GPU else "cpu"
LAYERS, HEADS, KV, DIM = 2, 4, 2, 64
LENGTHS, CONTEXT = [1100, 2100, 300, 900], 2 * EVIDENCE_PAGE + 300
OPTIONS = SFIOptions(budget=64, recent=32, queries=PROMPT_QUERIES)
# one of each layer's own
SCORINGS = [Scoring(DIM**-0.5, k_scale=0.07), Scoring(DIM**-0.5, cap=0.3, k_scale=0.2)]


def selected(keys, queries, slots) -> torch.Tensor:
    """Reference: positions [LAYERS, KV, budget]."""
    count = OPTIONS.candidates(len(slots))
    chosen = slots[OPTIONS.sink : OPTIONS.sink + count].long()
    evidence = [
        selector.power_mean(
            selector.attention_logits(grouped_queries(q, KV), k[chosen].transpose(0, 1), scoring).log_softmax(-1),
            OPTIONS.selector,
        )
        for q, k, scoring in zip(queries, keys.float(), SCORINGS, strict=True)
    ]
    return selector.select(torch.stack(evidence), 1, OPTIONS.budget, OPTIONS.selector) + OPTIONS.sink


def test_the_server_compiles_what_prompts_run(monkeypatch):
    """Of the selection too: its tables lie elsewhere than those of decode passes, whose graphs have compiled it."""
    seen, refreshed = [], []
    monkeypatch.setattr(prefill_observer, "prompt_evidence", lambda *given: seen.append(given))
    monkeypatch.setattr(Workspace, "refresh", lambda _, *given: refreshed.append(given))
    workspace = Workspace.allocate(Limits(LAYERS, HEADS, KV, DIM, 1, 1, OPTIONS.budget, CONTEXT), DEVICE, 1 << 40)
    keys = torch.zeros(8, KV, DIM, device=DEVICE, dtype=torch.float8_e4m3fn)
    observer = PrefillObserver(workspace, lambda _: keys, torch.zeros(1, 8))
    observer.compile(SCORINGS[1], torch.bfloat16)
    shapes = [(KV, count * HEADS // KV, DIM) for count in range(1, PROMPT_QUERIES + 1)]
    assert [queries.shape for queries, *_ in seen] == shapes
    assert all(queries.dtype is torch.bfloat16 and of is keys for queries, of, *_ in seen)
    assert all(scoring is SCORINGS[1] for _, _, _, scoring, *_ in seen)
    assert refreshed == [(observer.metadata, 1, PROMPT_QUERIES * HEADS // KV)]


def test_prompts_take_turns_where_their_evidence_does_not_fit_together():
    torch.manual_seed(0)
    limits = Limits(LAYERS, HEADS, KV, DIM, requests=8, graph_rows=8, budget=OPTIONS.budget, context=CONTEXT)
    assert limits.evidence_tokens < sum(map(OPTIONS.candidates, LENGTHS))
    real = torch.randn(LAYERS, sum(LENGTHS), KV, DIM, device=DEVICE)
    keys = torch.stack([k / scoring.k_scale for k, scoring in zip(real, SCORINGS, strict=True)]).to(torch.float8_e4m3fn)
    q = torch.randn(LAYERS, len(LENGTHS) * PROMPT_QUERIES, HEADS * DIM, device=DEVICE, dtype=torch.float16)
    req_to_token = torch.zeros(len(LENGTHS), CONTEXT, dtype=torch.int32, device=DEVICE)
    for line, slots, length in zip(req_to_token, torch.randperm(sum(LENGTHS)).split(LENGTHS), LENGTHS, strict=True):
        line[:length] = slots
    rows = [
        RowPlan(
            Step.SLOW, length, RequestState(OPTIONS, length, SegmentTracker(OPTIONS, Vocabulary([]))), req_pool_index=i
        )
        for i, length in enumerate(LENGTHS)
    ]
    workspace = Workspace.allocate(limits, DEVICE, 1 << 40)
    observer = PrefillObserver(workspace, lambda layer: keys[layer], req_to_token)
    observer.begin(rows, [PROMPT_QUERIES] * len(rows))  # all else was cached
    for i in range(LAYERS):
        observer.observe(q[i].view(-1, HEADS, DIM), i, SCORINGS[i])
    queries = q.view(LAYERS, len(rows), PROMPT_QUERIES, HEADS, DIM)
    for i, row in enumerate(rows):
        state = row.state
        mine = workspace.table.positions[state.selection.line, :, :, : state.count]
        expected = selected(keys, queries[:, i], req_to_token[i, : row.length])
        same = (mine.long() == expected).float().mean()  # rounding may swap neighbours in rank
        assert same > 0.97 and state.recent_start == OPTIONS.recent_start(row.length)
