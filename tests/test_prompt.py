"""Prompts that end in one prefill pass: each gets the memory that it would get alone, however little room there is."""

from types import SimpleNamespace

import torch
from conftest import GPU

from sfi_sglang import selector
from sfi_sglang.device_memory import DeviceMemory, Shape
from sfi_sglang.kernels.rows import TILE
from sfi_sglang.options import PROMPT_QUERIES, SFIOptions
from sfi_sglang.plan import Row, Step
from sfi_sglang.prompt import PromptObserver
from sfi_sglang.state import RequestState
from sfi_sglang.torch_executor import grouped_queries
from sfi_sglang.trigger import SegmentTracker, Vocabulary

DEVICE = "cuda" if GPU else "cpu"
LAYERS, HEADS, KV, DIM = 2, 4, 2, 64
LENGTHS, CONTEXT = [1100, 2100, 300, 900], 2 * TILE + 300
OPTIONS = SFIOptions(budget=64, recent=32)
SCALE = DIM**-0.5


def selected(keys, queries, slots) -> torch.Tensor:
    """Reference: positions [LAYERS, KV, budget]."""
    count = OPTIONS.candidates(len(slots))
    chosen = slots[OPTIONS.sink : OPTIONS.sink + count].long()
    evidence = [
        selector.power_mean(
            selector.attention_logits(grouped_queries(q, KV), k[chosen].transpose(0, 1), SCALE).log_softmax(-1),
            OPTIONS.selector,
        )
        for q, k in zip(queries, keys, strict=True)
    ]
    return selector.select(torch.stack(evidence), 1, OPTIONS.budget, OPTIONS.selector) + OPTIONS.sink


def test_prompts_take_turns_where_their_evidence_does_not_fit_together():
    torch.manual_seed(0)
    shape = Shape(LAYERS, HEADS, KV, DIM, requests=8, graph_rows=8, budget=OPTIONS.budget, context=CONTEXT)
    assert shape.evidence_tokens < sum(map(OPTIONS.candidates, LENGTHS))
    keys = torch.randn(LAYERS, sum(LENGTHS), KV, DIM, device=DEVICE, dtype=torch.float16)
    q = torch.randn(LAYERS, len(LENGTHS) * PROMPT_QUERIES, HEADS * DIM, device=DEVICE, dtype=torch.float16)
    req_to_token = torch.zeros(len(LENGTHS), CONTEXT, dtype=torch.int32, device=DEVICE)
    for line, slots, length in zip(req_to_token, torch.randperm(sum(LENGTHS)).split(LENGTHS), LENGTHS, strict=True):
        line[:length] = slots
    rows = [
        Row(Step.SLOW, length, RequestState(OPTIONS, length, SegmentTracker(OPTIONS, Vocabulary([]))), pool_row=i)
        for i, length in enumerate(LENGTHS)
    ]
    backend = SimpleNamespace(
        shape=shape,
        memory=DeviceMemory.allocate(shape, DEVICE, 1 << 40),
        pool=SimpleNamespace(get_key_buffer=lambda layer: keys[layer]),
        req_to_token=req_to_token,
        planner=SimpleNamespace(rows_for=lambda rids, size: rows),
    )
    observer = PromptObserver(backend)
    batch = SimpleNamespace(
        rids=[], batch_size=len(rows), extend_seq_lens_cpu=[PROMPT_QUERIES] * len(rows)
    )  # all else was cached
    for i in range(LAYERS):
        layer = SimpleNamespace(layer_id=i, tp_q_head_num=HEADS, qk_head_dim=DIM, scaling=SCALE)
        observer.observe(q[i], layer, batch)
    queries = q.view(LAYERS, len(rows), PROMPT_QUERIES, HEADS, DIM)
    for i, row in enumerate(rows):
        memory = row.state.memory
        mine = backend.memory.table.positions[memory.row, :, :, : memory.count]
        expected = selected(keys, queries[:, i], req_to_token[i, : row.length])
        same = (mine.long() == expected).float().mean()  # rounding may swap neighbours in rank
        assert same > 0.97 and memory.recent_start == OPTIONS.recent_start(row.length)
