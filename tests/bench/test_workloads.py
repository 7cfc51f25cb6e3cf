"""Presets, and the workloads generated from them."""

import dataclasses
import itertools
import json
import statistics as arithmetic

import pytest

from sfi_sglang.client.token_count import MESSAGE_TOKENS, from_tokenizer
from sfi_sglang.serving.embedded_model import embedded_model
from sfi_sglang.trajectory.generate import generate
from sfi_sglang.trajectory.lengths import call_lengths, statistics
from sfi_sglang.trajectory.plan import make_plan
from sfi_sglang.trajectory.presets import PRESETS, preset
from sfi_sglang.trajectory.workload import Trajectory, Turn
from tests.helpers import common_prefix

COUNT = from_tokenizer(embedded_model())


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


@pytest.mark.server
def test_a_server_counts_prompts_as_planned(server, client, smoke):
    model = client.models.list().data[0].id
    _, messages = next(smoke.trajectories[0].calls())
    answer = client.chat.completions.create(
        model=model, messages=messages, tools=smoke.trajectories[0].tools, tool_choice="none", max_tokens=1
    )
    assert answer.usage.prompt_tokens == pytest.approx(1500, rel=0.02)
