"""The FlashInfer executor: page numbers, room and refusals on a CPU; its attention against ours on a GPU."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sfi_sglang.api import settings as settings_module
from sfi_sglang.api.options import SFIOptions
from sfi_sglang.api.settings import Settings
from sfi_sglang.attention.flashinfer_decode import FlashInferAttention, indptr_of
from sfi_sglang.attention.pass_metadata import PassMetadata
from sfi_sglang.attention.triton_backend import FAST, MIXED, SFITritonBackend
from sfi_sglang.attention.triton_decode import TritonAttention
from sfi_sglang.attention.workspace import Workspace
from sfi_sglang.kernels import launch
from sfi_sglang.kernels.pack import pack
from sfi_sglang.scheduling.request_state import RequestState
from sfi_sglang.scheduling.row_plan import RowPlan, Step
from sfi_sglang.scheduling.segments import SegmentTracker, Vocabulary
from sfi_sglang.scheduling.step_planner import StepPlanner
from sfi_sglang.selection.limits import Limits
from sfi_sglang.selection.scoring import Scoring
from sfi_sglang.selection.snapshot_store import SnapshotStore
from sfi_sglang.selection.table import HostSelection
from tests.helpers import GPU

DEVICE = "cuda" if GPU else "cpu"
LIMITS = {"heads": 8, "requests": 4, "graph_rows": 4, "context": 5000}
MB = 1 << 20


def fill(workspace: Workspace, metadata: PassMetadata, contexts: list[int], options: SFIOptions) -> None:
    """Fast rows with random selections, dense ones where the context is short; 0 leaves a padded row."""
    metadata.clear()
    positions = workspace.table.positions
    for row, length in enumerate(contexts):
        if length <= options.dense_limit:
            if length:
                metadata.dense(row, length)
            continue
        start = options.recent_start(length)
        count = min(workspace.limits.budget, start - options.sink)
        noise = torch.rand(*positions.shape[1:3], start - options.sink)
        picks = noise.topk(count).indices.sort().values + options.sink
        positions[3 - row, :, :, :count] = picks.int().to(DEVICE)
        metadata.fast(row, length, (options.sink, count, start), 3 - row)


def expected_pages(
    workspace: Workspace, metadata: PassMetadata, req_to_token, req_pool_indices, layer: int
) -> torch.Tensor:
    """Pages of all rows and KV heads of a layer, one after the other."""
    out = []
    for row, pool_row in enumerate(req_pool_indices):
        sink, count, recent, length, _, line = (int(value) for value in metadata.lines[row, :6])
        for head in range(workspace.limits.kv_heads):
            selected = workspace.table.positions[line, layer, head, :count].long()
            ends = torch.arange(sink, device=DEVICE), selected, torch.arange(recent, length, device=DEVICE)
            out.append(req_to_token[pool_row, torch.cat(ends)] * workspace.limits.kv_heads + head)
    return torch.cat(out)


@settings(max_examples=20)
@given(
    contexts=st.lists(st.sampled_from([0, 1, 2, 70, 71, 300, 1500, 2400]), min_size=1, max_size=4),
    kv_heads=st.sampled_from([1, 3, 4]),
    layers=st.integers(1, 3),
    sink=st.sampled_from([0, 1, 4]),
    budget=st.sampled_from([1, 60, 1200]),
)
def test_page_numbers_of_ragged_and_padded_rows(contexts, kv_heads, layers, sink, budget):
    options = SFIOptions(sink=sink, recent=20, budget=budget)
    limits = Limits(layers=layers, kv_heads=kv_heads, dim=64, budget=budget, **LIMITS | {"heads": kv_heads})
    workspace, metadata = Workspace.allocate(limits, DEVICE, 1 << 40), PassMetadata(4, 1024, DEVICE)
    fill(workspace, metadata, contexts, options)
    metadata.load()
    req_to_token = torch.stack([torch.randperm(4000) for _ in range(6)]).int().to(DEVICE)
    req_pool_indices = torch.tensor([5, 2, 1, 3])[: len(contexts)].to(DEVICE)
    indptr = indptr_of(metadata.visible[: len(contexts)], kv_heads)
    pages = torch.full((layers, indptr[-1] + 7), -1, dtype=torch.int32, device=DEVICE)
    pack(
        workspace.table.positions,
        req_to_token,
        req_pool_indices,
        metadata.rows,
        torch.from_numpy(indptr).to(DEVICE),
        pages,
    )
    for layer in range(layers):
        expected = expected_pages(workspace, metadata, req_to_token, req_pool_indices, layer)
        assert pages[layer, : indptr[-1]].tolist() == expected.tolist()
    assert (pages[:, indptr[-1] :] == -1).all()


def test_pages_of_a_row_start_where_those_of_the_row_before_end():
    assert indptr_of(np.array([3, 1]), 2).tolist() == [0, 3, 6, 7, 8]
    assert indptr_of(np.array([3, 1]), 2).dtype == np.int32


@given(
    budget=st.integers(1, 4096),
    length=st.integers(5000, 200_000),
    step=st.integers(1, SFIOptions().max_segment - 1),
    rows=st.integers(1, 64),
)
def test_a_full_batch_with_default_options_fits(budget, length, step, rows):
    options = SFIOptions(budget=budget)
    state = RequestState(options, length, SegmentTracker(options, Vocabulary([])))
    state.begin_refresh(length)
    state.selection = HostSelection(torch.empty(0))
    limits = Limits(layers=1, kv_heads=2, dim=64, budget=4096, **LIMITS | {"graph_rows": rows})
    assert state.visible_tokens(length + step) * rows <= limits.page_room


def test_rows_that_see_too_much_go_to_the_triton_kernels():
    backend = object.__new__(SFITritonBackend)
    backend.planner = StepPlanner(SnapshotStore(0))
    backend.attention = {FAST: SimpleNamespace(fits=lambda tokens: tokens <= 600)}
    options = SFIOptions()
    selection = HostSelection(torch.empty(0))
    tracker = SegmentTracker(options, Vocabulary([]))
    state = RequestState(options, 1, tracker, selection, count=100, recent_start=1000)
    batch = SimpleNamespace(rids=["a", "b"], batch_size=2)
    for length, variant in ((1196, FAST), (1197, MIXED)):  # 4 + 100 + 196 tokens a row
        backend.planner.rids, backend.planner.rows = ["a", "b"], [RowPlan(Step.FAST, length, state)] * 2
        assert backend.select(batch) == variant


def test_memory_is_stated_only_when_chosen():
    without = Limits(layers=36, kv_heads=8, dim=128, budget=4096, **LIMITS)
    chosen = Limits(layers=36, kv_heads=8, dim=128, budget=4096, flashinfer=True, **LIMITS)
    assert "FlashInfer" not in without.statement()
    pages = 36 * 8 * 4 * (4 + 4096 + 1024 + 15 + 64 + 1)
    assert chosen.total_bytes - without.total_bytes == pages * 4 + 129 * MB
    assert f"{(pages * 4 + 129 * MB) / MB:.0f} MB for FlashInfer" in chosen.statement()


def test_auto_is_not_flashinfer():
    assert Settings().resolved_executor() == ("triton" if GPU else "torch")
    Settings().check_executor()


@pytest.mark.skipif(GPU, reason="asks for a machine without CUDA")
def test_refused_without_cuda():
    with pytest.raises(ValueError, match="--sfi-executor flashinfer needs CUDA"):
        Settings(executor="flashinfer").check_executor()


def test_a_layer_that_does_more_than_scale_is_refused():
    attention = FlashInferAttention.__new__(FlashInferAttention)  # it needs a GPU
    for scoring in (Scoring(1.0, cap=30.0), Scoring(1.0, sinks=torch.zeros(8)), Scoring(1.0, v_scale=0.5)):
        with pytest.raises(ValueError, match=r"layer 3 .* --sfi-executor triton"):
            attention.run(torch.zeros(1), torch.zeros(1), torch.zeros(1), 3, scoring)


def test_refused_without_the_package(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(settings_module, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="flashinfer-python"):
        Settings(executor="flashinfer").check_executor()


@pytest.mark.gpu
@pytest.mark.parametrize(("kv_heads", "group"), [(8, 4), (2, 7), (1, 16)])
def test_attention_equals_ours_inside_a_graph(kv_heads, group):
    """One graph over all layers, captured on padded rows and replayed on ragged batches that are planned anew."""
    pytest.importorskip("flashinfer")
    torch.manual_seed(0)
    dim, dtype = 128, torch.bfloat16  # one kernel of FlashInfer's to compile
    layers, rows, budget, slots, scoring = 3, 4, 700, 20_000, Scoring(0.7 * dim**-0.5)
    options = SFIOptions(budget=budget)
    limits = Limits(
        layers=layers, kv_heads=kv_heads, dim=dim, budget=budget, flashinfer=True,
        **LIMITS | {"heads": kv_heads * group, "graph_rows": rows + 2},
    )  # fmt: skip
    workspace, metadata = Workspace.allocate(limits, DEVICE, 1 << 40), PassMetadata(rows + 2, 8192, DEVICE)
    keys, values = (torch.randn(layers, slots, kv_heads, dim, device=DEVICE, dtype=dtype) for _ in range(2))
    q = torch.randn(layers, rows, kv_heads * group, dim, device=DEVICE, dtype=dtype)
    req_to_token = torch.randperm(slots, device=DEVICE).int().view(rows, -1)
    req_pool_indices = torch.arange(rows, device=DEVICE).flip(0)
    processors = torch.cuda.get_device_properties(0).multi_processor_count
    ours = TritonAttention(workspace, metadata, req_to_token, launch.FAST, processors, logits_out=False)
    theirs = FlashInferAttention(workspace, metadata, req_to_token, dtype)

    def all_layers(attention) -> torch.Tensor:
        attention.start(req_pool_indices)
        return torch.stack([attention.run(q[i], keys[i], values[i], i, scoring) for i in range(layers)])

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        theirs.prepare(rows)  # of padded rows only, as SGLang captures
        all_layers(theirs)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = all_layers(theirs)
    for contexts in ([5000, 900, 1300, 2222], [0, 4000, 0, 0], [1, 0, 64, 4999], [3000] * 4):
        fill(workspace, metadata, contexts, options)
        theirs.prepare(rows)
        graph.replay()
        theirs.prepare(rows - 1)  # another batch size shares the workspaces
        ours.prepare(rows)
        expected = all_layers(ours).float()
        assert expected.norm() > 0
        assert (out.float() - expected).norm() / expected.norm() < 1e-2
        assert (out.float() - expected).abs().max() < 0.05
        theirs.prepare(rows)
        assert torch.equal(all_layers(theirs), out)  # without a graph
    assert theirs.fits(limits.page_room) and not theirs.fits(limits.page_room + 1)
