"""Workload files of others and our own: read and written."""

import importlib
import json
import sys
import types
from pathlib import Path

import pytest
import sglang.benchmark
from hypothesis import given
from hypothesis import strategies as st

from sfi_sglang.client.token_count import from_tokenizer
from sfi_sglang.serving.embedded_model import embedded_model
from sfi_sglang.trajectory.formats import load, save
from sfi_sglang.trajectory.generate import generate
from sfi_sglang.trajectory.lengths import call_lengths
from sfi_sglang.trajectory.presets import preset
from sfi_sglang.trajectory.workload import Trajectory, Turn, Workload
from tests.helpers import common_prefix

DATA = Path(__file__).parents[1] / "data"
COUNT = from_tokenizer(embedded_model())


@pytest.fixture(scope="module")
def smoke():
    return generate(preset("smoke"), COUNT)


def texts(trajectory):
    return [[message["content"] for message in messages] for _, messages in trajectory.calls()]


roles = st.sampled_from(["user", "tool", "system"])
messages = st.fixed_dictionaries({"role": roles, "content": st.text(max_size=8)}, optional={"tool_call_id": st.text()})
replies = st.fixed_dictionaries({"role": st.just("assistant"), "content": st.text(max_size=8) | st.none()})
milliseconds = st.integers(0, 10**7).map(lambda value: value / 1000)
turns = st.builds(
    Turn,
    messages=st.lists(messages, min_size=1, max_size=3).map(tuple),
    reply=replies,
    output_tokens=st.integers(1, 1000),
    delay=milliseconds,
    restart=st.booleans(),
)
tools = st.lists(st.fixed_dictionaries({"type": st.just("function"), "function": st.just({"name": "f"})}), max_size=2)
workloads = st.lists(
    st.tuples(st.lists(turns, min_size=1, max_size=4), tools, st.none() | milliseconds), min_size=1, max_size=3
).map(
    lambda drawn: Workload(
        name="drawn",
        trajectories=tuple(
            Trajectory(id=f"t{i}", turns=tuple(t), tools=tuple(f), start=start) for i, (t, f, start) in enumerate(drawn)
        ),
        about={"seed": 1},
    )
)


@given(workload=workloads)
def test_agentic_traces_keep_everything(tmp_path_factory, workload):
    path = tmp_path_factory.getbasetemp() / "drawn.json"
    save(workload, path, "agentic-trace", COUNT)
    assert load(path, COUNT) == workload


@given(workload=workloads)
def test_mooncake_traces_keep_the_trajectories(tmp_path_factory, workload):
    starts = [trajectory.start for trajectory in workload.trajectories if trajectory.start is not None]
    path = tmp_path_factory.getbasetemp() / "drawn.jsonl"
    save(workload, path, "mooncake")
    for before, after in zip(workload.trajectories, load(path, COUNT).trajectories, strict=True):
        assert after.turns == before.turns
        assert (after.id, after.tools) == (before.id, before.tools)
        if before.start is not None:
            assert after.start == pytest.approx(before.start - min(starts))


@pytest.mark.parametrize("format", ["agentic-trace", "mooncake"])
def test_generated_workloads_survive_a_file(format, smoke, tmp_path):
    save(smoke, tmp_path / "smoke.x", format, COUNT)
    again = load(tmp_path / "smoke.x", COUNT)
    assert [t.tools for t in again.trajectories] == [t.tools for t in smoke.trajectories]
    assert [t.turns for t in again.trajectories] == [t.turns for t in smoke.trajectories]


def test_sglang_loads_what_we_write(smoke, tmp_path, monkeypatch):
    save(smoke, tmp_path / "smoke.json", "agentic-trace", COUNT)
    dataset = sglang_loader(monkeypatch)(str(tmp_path / "smoke.json"), 0, None, 0, None)
    rows = dataset.load(tokenizer=None)
    expected = [[list(turn.messages) for turn in trajectory.turns] for trajectory in smoke.trajectories]
    assert [row.prompt for row in rows] == expected
    assert [row.prompt_len for row in rows] == [call_lengths(t, COUNT)[0].prompt for t in smoke.trajectories]


def sglang_loader(monkeypatch):
    """SGLang's class, without its package's other datasets: those need the `datasets` library."""
    package = types.ModuleType("sglang.benchmark.datasets")
    package.__path__ = [str(Path(path) / "datasets") for path in sglang.benchmark.__path__]
    monkeypatch.setitem(sys.modules, package.__name__, package)
    for name in ("common", "agentic_trace"):
        monkeypatch.delitem(sys.modules, f"{package.__name__}.{name}", raising=False)
    return importlib.import_module(f"{package.__name__}.agentic_trace").AgenticTraceDataset


def test_a_trace_by_another_tool_is_read_as_sglang_reads_it(monkeypatch):
    path = DATA / "agentic_trace.json"
    trajectories = load(path, COUNT).trajectories
    rows = sglang_loader(monkeypatch)(str(path), 0, None, 0, None).load(tokenizer=None)
    assert [[list(turn.messages) for turn in t.turns] for t in trajectories] == [row.prompt for row in rows]
    assert {turn.output_tokens for t in trajectories for turn in t.turns} == {rows[0].output_len}
    assert COUNT(trajectories[0].turns[0].reply["content"]) == rows[0].output_len


def test_mooncake_blocks_give_shared_text():
    first, second, short, other = load(DATA / "mooncake.jsonl", COUNT).trajectories
    (one,), (two,), (three,), (four,) = (texts(t)[0] for t in (first, second, short, other))
    assert [COUNT(text) for text in (one, two, three, four)] == [1200, 1300, 512, 513]
    assert one.startswith(three) and two.startswith(three)
    common = common_prefix(one, two)
    assert COUNT(common) == pytest.approx(1024, abs=5)
    assert COUNT(common_prefix(one, four)) < 5


def test_mooncake_times_and_lengths():
    trajectories = load(DATA / "mooncake.jsonl", COUNT).trajectories
    assert [t.start for t in trajectories] == pytest.approx([0.0, 3.053, 3.053, 3.518])
    assert [t.turns[0].output_tokens for t in trajectories] == [52, 26, 1, 500]
    assert [COUNT(t.turns[0].reply["content"]) for t in trajectories] == [52, 26, 1, 500]


def test_a_limit_takes_the_first_trajectories():
    assert len(load(DATA / "mooncake.jsonl", COUNT, limit=2).trajectories) == 2


@pytest.fixture(scope="module")
def aiperf():
    workload = load(DATA / "aiperf.jsonl", COUNT)
    return {trajectory.id: trajectory for trajectory in workload.trajectories} | {"about": workload.about}


def test_whole_contexts_become_turns(aiperf):
    first, second, third = aiperf["porto"].turns
    assert first.reply["tool_calls"][0]["id"] == "call_1"  # recorded in the next line's messages
    assert [message["role"] for message in second.messages] == ["tool"]
    assert third.restart and not second.restart
    assert len(third.messages) == 2
    assert [turn.output_tokens for turn in (first, second, third)] == [24, 18, 20]
    assert [turn.delay for turn in (first, second, third)] == [0, 1.2505, 0.01]
    assert aiperf["porto"].tools[0]["function"]["name"] == "get_weather"


def test_new_messages_follow_a_synthesised_reply(aiperf):
    first, second = aiperf["delta"].turns
    assert second.messages == ({"role": "user", "content": "How are you?"},)
    assert COUNT(first.reply["content"]) == 50
    assert second.delay == 2.0


def test_lengths_in_a_session_are_of_the_new_text(aiperf):
    first, second = aiperf["sized"].turns
    assert not second.restart
    assert [COUNT(turn.messages[0]["content"]) for turn in (first, second)] == [300, 150]
    assert (first.output_tokens, second.delay, aiperf["sized"].start) == (40, 0.002, 1.0)


def test_other_names_of_the_fields(tmp_path):
    line = {"created_time": 5, "delay_ms": 2000, "input_tokens": 30, "output_tokens": 4}
    (tmp_path / "trace.jsonl").write_text(json.dumps(line))
    (trajectory,) = load(tmp_path / "trace.jsonl", COUNT).trajectories
    (turn,) = trajectory.turns
    assert COUNT(turn.messages[0]["content"]) == 30
    assert (turn.output_tokens, turn.delay, trajectory.start) == (4, 2.0, 0.0)


def test_lines_without_a_session_are_trajectories(aiperf):
    assert aiperf["line-8"].turns[0].output_tokens == 4  # the payload's max_tokens
    assert aiperf["line-9"].turns[0].messages[0]["content"] == "What is the capital of France?"
    assert aiperf["line-9"].start is None


def test_what_is_not_used_is_counted(aiperf):
    assert aiperf["about"]["extra_not_used"] == 1


def test_transcripts_split_at_the_assistants_messages(tmp_path):
    conversation = [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": "one two three"},
        {"role": "tool", "tool_call_id": "c", "content": "r"},
        {"role": "assistant", "content": "", "tool_calls": [{"id": "c", "function": {"name": "answer"}}]},
        {"role": "tool", "tool_call_id": "c", "content": "never sent"},
    ]
    branch = [*conversation[:4], {"role": "user", "content": "b"}, {"role": "assistant", "content": "yes"}]
    record = {"messages": conversation, "branches": [branch], "tools": [{"type": "function"}], "answer": 1}
    (tmp_path / "run.json").write_text(json.dumps(record))
    (trajectory,) = load(tmp_path / "run.json", COUNT).trajectories
    assert texts(trajectory) == [["s", "q"], ["s", "q", "one two three", "r"], ["s", "q", "one two three", "r", "b"]]
    assert [turn.restart for turn in trajectory.turns] == [False, False, True]
    assert trajectory.turns[0].output_tokens == COUNT("one two three")
    assert trajectory.turns[1].output_tokens > 1  # the tool call's JSON
    assert trajectory.tools == ({"type": "function"},)
    assert load(tmp_path, COUNT).trajectories == (trajectory,)


def test_an_unknown_format_is_named(smoke, tmp_path):
    with pytest.raises(ValueError, match="format: 'csv'"):
        save(smoke, tmp_path / "x", "csv")
