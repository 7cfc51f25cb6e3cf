import dataclasses
import importlib
import itertools
import json
import statistics as arithmetic
import sys
import types
from pathlib import Path

import pytest
import sglang.benchmark
from hypothesis import given
from hypothesis import strategies as st

from sfi_sglang.model import embedded_model
from sfi_sglang.trajectory.counters import (
    MESSAGE_TOKENS,
    calibrated,
    estimate,
    from_server,
    from_tokenizer,
    message_tokens,
)
from sfi_sglang.trajectory.filler import Filler
from sfi_sglang.trajectory.formats import load, save
from sfi_sglang.trajectory.generate import generate
from sfi_sglang.trajectory.lengths import call_lengths, statistics
from sfi_sglang.trajectory.plan import make_plan
from sfi_sglang.trajectory.presets import PRESETS, preset
from sfi_sglang.trajectory.workload import Trajectory, Turn, Workload

DATA = Path(__file__).parent / "data"
COUNT = from_tokenizer(embedded_model())
FILLER = Filler(COUNT)


# Filler text


@given(kind=st.sampled_from(["code", "prose", "listing"]), tokens=st.integers(0, 3000), key=st.text(max_size=4))
def test_texts_have_the_asked_number_of_tokens(kind, tokens, key):
    assert COUNT(FILLER.text(kind, tokens, key)) == tokens


@pytest.mark.parametrize("kind", ["code", "prose", "listing"])
def test_long_texts_have_the_asked_number_of_tokens(kind):
    assert COUNT(FILLER.text(kind, 160_000, "long")) == 160_000


def test_an_estimate_gives_lengths_within_half_a_percent():
    count = estimate(3.7)
    assert count(Filler(count).text("code", 50_000, "x")) == pytest.approx(50_000, rel=0.005)


def test_tokens_of_joined_texts_add_up():
    assert COUNT(FILLER.text("code", 700, "a") + FILLER.text("prose", 300, "b")) == 1000


def test_texts_depend_on_key_and_seed_alone():
    assert Filler(COUNT).text("code", 500, "a") == FILLER.text("code", 500, "a")
    assert FILLER.text("code", 500, "b") != FILLER.text("code", 500, "a")
    assert Filler(COUNT, seed=1).text("code", 500, "a") != FILLER.text("code", 500, "a")


def test_a_text_starts_with_its_heading():
    text = FILLER.text("prose", 50, "a", heading="Task 7.")
    assert text.startswith("Task 7.\n")
    assert COUNT(text) == 50


def test_an_unknown_kind_is_named():
    with pytest.raises(ValueError, match="kind: 'verse'"):
        FILLER.text("verse", 10, "a")


def test_a_missing_tokenizer_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"tokenizer\.json"):
        from_tokenizer(tmp_path)


# Plans and presets


@pytest.mark.parametrize(("trajectories", "seed"), [(8, 0), (8, 1), (32, 2)])
def test_exgentic_has_the_published_shape(trajectories, seed):
    shape = statistics(make_plan(preset("exgentic", trajectories=trajectories, seed=seed)), COUNT)
    assert shape.turns == 22
    assert shape.mean_input == pytest.approx(49_100, rel=0.03)
    assert shape.mean_output == pytest.approx(659, rel=0.03)
    assert shape.shared_calls == pytest.approx(0.92, rel=0.03)
    assert shape.mean_shared_prefix == pytest.approx(44_600, rel=0.03)


def test_exgentic_lengths_vary():
    turns = make_plan(preset("exgentic")).trajectories[0]
    assert arithmetic.stdev(turn.output for turn in turns) > 0.15 * 659
    assert arithmetic.stdev(turn.new for turn in turns[1:11]) > 0.25 * 7636


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [("coding", 149_600, 159_250), ("toolcall", 8000, 32_000), ("chat", 2000, 15_500), ("smoke", 1500, 4950)],
)
def test_contexts_grow_as_stated(name, first, last):
    plan = make_plan(preset(name))
    assert plan.cut == 0
    for turns in plan.trajectories:
        assert turns[0].prompt == first
        assert turns[-1].prompt == pytest.approx(last, rel=0.01)


def test_calls_that_do_not_fit_are_left_out_and_counted():
    plan = make_plan(preset("coding", turns=20))
    assert plan.cut == 4 * 20 - sum(map(len, plan.trajectories)) > 40
    assert statistics(plan, COUNT).max_context <= 160_000
    workload = generate(preset("smoke", max_context=3500), COUNT)
    assert workload.about["calls_left_out"] == 8 - workload.about["calls"] > 0


def test_a_context_that_fits_no_call_is_named():
    with pytest.raises(ValueError, match="max_context: no call of preset coding fits into 32000"):
        make_plan(preset("coding", max_context=32_000))


def test_output_scale_scales_the_replies():
    plan = make_plan(preset("chat", output_scale=0.5))
    assert statistics(plan, COUNT).mean_output == pytest.approx(150, rel=0.02)


@pytest.mark.parametrize(
    ("name", "changes", "field"),
    [("huge", {}, "preset"), ("smoke", {"turns": 0}, "turns"), ("smoke", {"sice": 1}, "sice")],
)
def test_wrong_presets_name_the_field(name, changes, field):
    with pytest.raises(ValueError, match=f"^{field}: "):
        preset(name, **changes)


# Generated workloads


@pytest.fixture(scope="module")
def smoke():
    return generate(preset("smoke"), COUNT)


@pytest.fixture(scope="module")
def tokenizer():
    transformers = pytest.importorskip("transformers")
    return transformers.AutoTokenizer.from_pretrained(embedded_model())


def small(name):
    return preset(name, trajectories=1) if name != "coding" else preset(name, trajectories=1, turns=2)


@pytest.mark.parametrize("name", PRESETS)
def test_prompts_meet_the_plan_as_a_server_counts_them(name, tokenizer):
    settings = small(name)
    plan, workload = make_plan(settings), generate(settings, COUNT)
    for planned, trajectory in zip(plan.trajectories, workload.trajectories, strict=True):
        for turn, (call, messages) in list(zip(planned, trajectory.calls(), strict=True))[-2:]:
            text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
            assert COUNT(text) == pytest.approx(turn.prompt, rel=0.02)
            assert call.output_tokens == pytest.approx(turn.output, rel=0.1, abs=3)


def test_statistics_of_texts_are_those_of_the_plan(smoke):
    planned, real = statistics(make_plan(preset("smoke")), COUNT), statistics(smoke, COUNT)
    assert dataclasses.asdict(real) == pytest.approx(dataclasses.asdict(planned), rel=0.01)


@pytest.mark.parametrize("name", ["smoke", "toolcall", "chat"])
def test_messages_are_valid_openai_chat(name):
    for trajectory in generate(small(name), COUNT).trajectories:
        for turn, messages in trajectory.calls():
            assert [m["role"] for m in messages[:2]] == ["system", "user"]
            assert turn.reply["role"] == "assistant"
            for before, message in itertools.pairwise([*messages, turn.reply]):
                assert message["content"].strip()
                if message["role"] == "tool":
                    assert message["tool_call_id"] in [call["id"] for call in before["tool_calls"]]
            names = [tool["function"]["name"] for tool in trajectory.tools]
            for call in turn.reply.get("tool_calls", []):
                assert call["function"]["name"] in names
                assert json.loads(call["function"]["arguments"])


def test_actions_are_json():
    workload = generate(small("toolcall"), COUNT)
    for turn in workload.trajectories[0].turns:
        action, call = json.loads(turn.reply["content"]), turn.reply["tool_calls"][0]["function"]
        assert action["name"] == call["name"]


def test_the_seed_decides(smoke):
    assert generate(preset("smoke"), COUNT) == smoke
    assert generate(preset("smoke", seed=1), COUNT).trajectories != smoke.trajectories


def test_prefix_layers_are_shared():
    settings = preset("smoke", trajectories=3, contexts=2, projects=2, result_tokens=300)
    trajectories = generate(settings, COUNT).trajectories
    openings = [[message["content"] for message in trajectory.turns[0].messages] for trajectory in trajectories]
    systems = [opening[0] for opening in openings]
    assert systems[0] == systems[2]  # one project
    common = len(common_prefix(*systems[:2]))
    assert COUNT(systems[0][:common]) == pytest.approx(settings.global_tokens - MESSAGE_TOKENS, abs=3)
    assert openings[0][1] != openings[2][1]  # two sessions
    restarted = [turn for turn in trajectories[0].turns if turn.restart]
    assert [turn.messages[0]["content"] for turn in restarted] == [systems[0]]


def common_prefix(one, other):
    return "".join(a for a, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def test_waits_come_before_later_turns_only(smoke):
    assert [turn.delay for turn in smoke.trajectories[0].turns] == [0.0, 0.2, 0.2, 0.2]
    delays = [turn.delay for turn in make_plan(preset("exgentic")).trajectories[0][1:]]
    assert min(delays) >= 1 and max(delays) <= 3 and len(set(delays)) == len(delays)


def test_a_shared_prefix_is_a_whole_earlier_prompt():
    user, reply = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}
    turn = Turn(messages=(user,), reply=reply, output_tokens=1)
    again = Turn(messages=({**user, "content": "other"},), reply=reply, output_tokens=1, restart=True)
    lengths = call_lengths(Trajectory(id="t", turns=(turn, turn, again)), COUNT)
    message = 1 + MESSAGE_TOKENS
    assert [(call.prompt, call.shared) for call in lengths] == [(message, 0), (3 * message, message), (message, 0)]


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"content": "one two"}, "one two"),
        (
            {"content": [{"type": "text", "text": "one"}, {"type": "image_url"}, {"type": "text", "text": " two"}]},
            "one two",
        ),
        ({"content": None, "tool_calls": [{"function": {"name": "f"}}]}, '{"name": "f"}'),
        ({"content": "one two", "tool_calls": [{"function": {"name": "f"}}]}, "one two"),
    ],
)
def test_a_messages_tokens_are_its_texts_and_the_templates(message, text):
    assert message_tokens(message, COUNT) == COUNT(text) + MESSAGE_TOKENS


# Files


def agentic(*turns, **metadata):
    return json.dumps({"metadata": metadata, "conversations": [list(turns)]})


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


LINE = {"input_length": 10, "output_length": 5}
USER, ASSISTANT = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}


def jsonl(*lines):
    return "\n".join(map(json.dumps, lines))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (jsonl(LINE, {**LINE, "input_length": 0}), r"file:2: input_length: .*greater"),
        (jsonl(LINE, {"output_length": 3}), r"file:2: needs one of input_length, .* has none"),
        (jsonl(LINE, {**LINE, "text_input": "x"}), r"file:2: .*has input_length and text_input"),
        (jsonl({**LINE, "hash_ids": [1, 2]}), r"file:1: hash_ids: 2 blocks of 512 tokens do not make 10"),
        (jsonl({"text_input": "x", "output_length": 1, "hash_ids": [1]}), r"file:1: hash_ids: only with input_length"),
        (jsonl({"text_input": "x"}), r"file:1: output_length: missing"),
        (jsonl({**LINE, "delay": -1}), r"file:1: delay: "),
        (jsonl({"messages": [{"content": "a"}], "output_length": 1}), r"file:1: messages\.0: needs a role"),
        (jsonl({"payload": {"prompt": "a"}, "output_length": 1}), r"file:1: payload\.messages: "),
        (jsonl({"messages": [USER], "reply": USER, "output_length": 1}), r"file:1: reply: needs the role assistant"),
        (
            jsonl(*({"session_id": "s", "messages": [USER], "message_mode": mode, "output_length": 1}
                    for mode in ("delta", "history"))),
            r"file:1: message_mode: session s mixes",
        ),
        (
            jsonl(*({"session_id": "s", "messages": [USER], "tools": [{"name": name}], "output_length": 1}
                    for name in "ab")),
            r"file:2: tools: differ",
        ),
        (jsonl(LINE) + "\n{broken", r"file:2: not JSON"),
        ("", r"file: no requests"),
        (json.dumps([1, 2]), r"file:1: "),
        (agentic({"messages": "hello"}), r"file: conversations\[0\]\[0\]: messages: "),
        (agentic({"messages": [USER]}, {"messages": [USER], "delay": "x"}), r"conversations\[0\]\[1\]: delay: "),
        (agentic({"messages": []}), r"conversations\[0\]: no turn has messages"),
        (agentic({"messages": [USER]}, sessions=[{"start": -1}]), r"file: metadata: sessions\.0\.start: "),
        (json.dumps({"conversations": [{"turns": []}]}), r"file: conversations\[0\]: needs a list of turns"),
        (json.dumps({"conversations": []}), r"file: conversations: needs a list"),
        (json.dumps({"messages": [USER]}), r"file: messages: no assistant message"),
        (json.dumps({"messages": [ASSISTANT]}), r"file: messages\.0: an assistant message without"),
        (json.dumps({"messages": [USER, {"role": "robot"}]}), r"file: messages\.1: needs a role"),
    ],
)  # fmt: skip
def test_bad_files_name_file_place_and_field(text, message, tmp_path):
    (tmp_path / "file").write_text(text)
    with pytest.raises(ValueError, match=message):
        load(tmp_path / "file", COUNT)


def test_a_file_that_is_no_text_is_named(tmp_path):
    (tmp_path / "file").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="file: not UTF-8"):
        load(tmp_path / "file", COUNT)


def test_a_folder_without_transcripts_is_named(tmp_path):
    with pytest.raises(ValueError, match="no transcripts"):
        load(tmp_path, COUNT)


def test_a_transcript_that_is_no_object_is_named(tmp_path):
    (tmp_path / "run.json").write_text("[]")
    with pytest.raises(ValueError, match=r"run\.json: not a JSON object"):
        load(tmp_path, COUNT)


def test_an_unknown_format_is_named(smoke, tmp_path):
    with pytest.raises(ValueError, match="format: 'csv'"):
        save(smoke, tmp_path / "x", "csv")


# Servers


@pytest.mark.server
def test_counters_agree_with_the_server(server, client, smoke):
    text = FILLER.text("code", 2000, "sample")
    model = client.models.list().data[0].id
    assert from_server(server, model, text)(text) == 2000
    assert calibrated(server, model, text)(text) == pytest.approx(2000, abs=2)


@pytest.mark.server
def test_a_server_counts_prompts_as_planned(server, client, smoke):
    model = client.models.list().data[0].id
    _, messages = next(smoke.trajectories[0].calls())
    answer = client.chat.completions.create(
        model=model, messages=messages, tools=smoke.trajectories[0].tools, tool_choice="none", max_tokens=1
    )
    assert answer.usage.prompt_tokens == pytest.approx(1500, rel=0.02)
