"""Every agent program on the real server, in both modes: few tasks, short contexts."""

import json
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from sfi_sglang.agents.forkjoin import fork_join
from sfi_sglang.agents.logbook import SENTENCE_TOKENS, logbook
from sfi_sglang.agents.programs import PROGRAMS
from sfi_sglang.cli.main import app
from sfi_sglang.client.openai_stream import make_client

pytestmark = pytest.mark.server
runner = CliRunner(env={"COLUMNS": "160"})

SFI = {"budget": 64, "recent": 32, "sink": 4}
MODES = pytest.mark.parametrize("sfi", [None, SFI], ids=["dense", "sfi"])
SHORT = [("repo", "files of json"), ("data", "gold of Canada"), ("repo-frontend", "files of json")]
SENTENCES = 4  # of a page of the logbook


@pytest.fixture(scope="module")
def model(server):
    return make_client(server).models.list().data[0].id


def check_calls(result, sfi):
    assert result.finish_reason in ("answered", "step_limit") and result.error is None
    assert [cost.turn for cost in result.calls] == list(range(len(result.calls)))
    for cost in result.calls:
        assert cost.prompt_tokens > 0 and cost.output_tokens > 0 and cost.error is None
        assert 0 <= cost.start < cost.end <= result.seconds
        assert (cost.sfi is not None) == (sfi is not None)
        if cost.sfi:
            assert cost.sfi["slow_steps"] + cost.sfi["fast_steps"] == cost.output_tokens - 1
    if sfi:
        assert any(cost.sfi["fast_steps"] for cost in result.calls)


def check_messages(messages, program):
    """Every call is valid for its tool and has its result."""
    tools = {tool.name: tool for tool in program.toolbox()}
    made = [(i, call) for i, message in enumerate(messages) for call in message.get("tool_calls", [])]
    for i, call in made:
        tools[call["function"]["name"]].arguments.model_validate_json(call["function"]["arguments"])
        assert messages[i + 1]["role"] == "tool" and messages[i + 1]["tool_call_id"] == call["id"]
    return len(made)


@MODES
@pytest.mark.parametrize(("name", "task"), SHORT, ids=[name for name, _ in SHORT])
def test_a_program_runs(server, model, tmp_path, name, task, sfi):
    program, path = PROGRAMS[name](), tmp_path / "t.json"
    task = program.task(task)
    result = program.run(make_client(server), model, task, sfi=sfi, max_steps=len(task.plan) + 1, transcript=path)
    check_calls(result, sfi)
    record = json.loads(path.read_text())
    assert [message["role"] for message in record["messages"][:2]] == ["system", "user"]
    assert [turn["tool"] for turn in record["turns"]] == [turn.tool for turn in result.turns]
    assert result.turns[0].tool == task.plan[0].tool and len(result.turns) <= len(task.plan) + 1
    if name != "repo-frontend":
        assert check_messages(record["messages"], program) == len([turn for turn in result.turns if turn.tool])
        assert all(cost.arrivals and cost.arrivals[-1] <= cost.seconds for cost in result.calls)


@MODES
def test_research_writes_notes_and_reads_them(server, model, tmp_path, sfi):
    program, path = PROGRAMS["research"](), tmp_path / "t.json"
    task = program.task("default tab size")
    task = replace(task, plan=task.plan[1:])  # without the long section
    result = program.run(make_client(server), model, task, sfi=sfi, max_steps=len(task.plan) + 1, transcript=path)
    check_calls(result, sfi)
    messages = json.loads(path.read_text())["messages"]
    assert check_messages(messages, program)
    shown = [message["content"] for message in messages if message["role"] == "tool"]
    assert "note 1 written" in shown and any(text.startswith("1. ") for text in shown)


@MODES
def test_branches_share_the_prefix_and_run_at_once(server, model, tmp_path, sfi):
    program, path = fork_join(), tmp_path / "t.json"
    task = program.task("mail ports")
    task = replace(task, plan=task.plan[1:], branch=task.branch[1:])
    result = program.run(make_client(server), model, task, sfi=sfi, max_steps=2, transcript=path)
    check_calls(result, sfi)
    record = json.loads(path.read_text())
    fork, *others = result.turns
    parts = json.loads(fork.arguments)["parts"]
    assert fork.tool == "fork" and len(record["branches"]) == len(parts) >= 2
    branches = [turn.call for turn in others[: len(parts)]]
    assert max(cost.start for cost in branches) < min(cost.end for cost in branches)
    shared = record["messages"][: 1 + [m["role"] for m in record["messages"]].index("tool")]
    for branch in record["branches"]:
        assert branch[: len(shared)] == shared
        check_messages(branch, program)
    assert all(cost.cached_tokens > fork.call.prompt_tokens - 8 for cost in branches)
    joined = next(m["content"] for m in record["messages"] if m["content"].startswith("The branches report:"))
    assert [line.split(":")[0] for line in joined.splitlines()[1:-1]] == parts


def test_without_a_plan_the_model_may_call_any_tool(server, model):
    program = PROGRAMS["data"]()
    result = program.run(make_client(server), model, program.tasks[0], planned=False, max_steps=1)
    assert result.turns[0].offered == [tool.name for tool in program.toolbox()]
    assert result.turns[0].tool in (*result.turns[0].offered, None)


def test_the_agent_command(server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = ["--server", server, "--task", "gold of Canada", "--max-steps", "3", "--dense"]
    done = runner.invoke(app, ["agent", "data", *options], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "gold of Canada" in done.output and "dense: right answers" in done.output
    assert len(list(tmp_path.glob("runs/agent/data/dense/*.json"))) == 1


@MODES
def test_the_logbook_is_read_and_reported(server, model, tmp_path, sfi):
    program, path = logbook(SENTENCES), tmp_path / "t.json"
    task = program.tasks[0]
    result = program.run(make_client(server), model, task, sfi=sfi, transcript=path)
    check_calls(result, sfi)
    assert [turn.tool for turn in result.turns] == ["read_pages"] * 4 + [None]
    assert result.answer.startswith(task.begins) and 1 < result.calls[-1].output_tokens <= SENTENCE_TOKENS
    messages = json.loads(path.read_text())["messages"]
    assert check_messages(messages, program) == 4 and messages[-1] == {"role": "assistant", "content": result.answer}
    assert result.calls[-1].prompt_tokens > result.calls[-2].prompt_tokens > 300


def test_a_dense_model_reports_what_the_logbook_says(server, model):
    program = logbook(SENTENCES)
    client = make_client(server)
    right = [task.check(program.run(client, model, task).answer) for task in program.tasks[:2]]
    assert all(right)
