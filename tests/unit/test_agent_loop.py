"""The loop, its retries and its transcripts against a real HTTP server that misbehaves as told."""

import json
import time
from contextlib import ExitStack

import openai
import pytest
from typer.testing import CliRunner

from sfi_sglang.agents.forkjoin import ForkJoin, ForkTask, fork_join
from sfi_sglang.agents.logbook import logbook
from sfi_sglang.agents.loop import NO_CALL, NUDGE, REPEATS, RETRIES, Step
from sfi_sglang.agents.program import Program, Task
from sfi_sglang.agents.tools import ANSWER, CALCULATE
from sfi_sglang.cli.main import app
from sfi_sglang.client.openai_stream import make_client
from tests.misbehaving import call, serve


@pytest.fixture
def misbehaving():
    with ExitStack() as stack:
        yield lambda script: stack.enter_context(serve(script))


TASK = Task("sum", "What is 1 + 1?", 2)
PROGRAM = Program("sums", "You add.", lambda: [CALCULATE, ANSWER], (TASK,))
SAID = {"text": " 237 coins."}
ANSWERED = call("answer", text="It is 2.")


def run(url, task=TASK, program=PROGRAM, timeout=20.0, retries=RETRIES, **options):
    return program.run(make_client(url, timeout, retries), "m", task, **options)


def test_a_run_without_trouble(misbehaving):
    server, url = misbehaving([call("calculate", expression="1 + 1"), ANSWERED])
    result = run(url, sfi={"budget": 64})
    assert (result.answer, result.finish_reason, result.error) == ("It is 2.", "answered", None)
    assert TASK.check(result.answer)
    assert [(turn.tool, turn.offered, turn.failed) for turn in result.turns] == [
        ("calculate", ["calculate", "answer"], False),
        ("answer", ["calculate", "answer"], False),
    ]
    first, second = result.calls
    assert (first.turn, second.turn) == (0, 1)
    assert 0 <= first.start <= first.end <= second.start <= second.end == result.seconds
    assert first.delay == 0 < second.delay
    for cost in result.calls:
        assert (cost.prompt_tokens, cost.output_tokens, cost.cached_tokens, cost.sfi) == (9, 5, 4, {"slow_steps": 1})
        assert len(cost.arrivals) == 3 and 0 <= cost.ttft <= cost.arrivals[-1] <= cost.seconds
    assert [body["sfi"] for body in server.bodies] == [{"budget": 64}] * 2
    assert server.bodies[1]["messages"][-1]["content"] == "2"


@pytest.mark.parametrize("arguments", ['{"a": ' + "[" * 9999, "[]", '{"a": "\\ud800"}', "{"])
def test_arguments_that_nobody_could_load_are_no_call(arguments, misbehaving):
    server, url = misbehaving([{"tool": "calculate", "arguments": arguments}, ANSWERED])
    assert run(url).answer == "It is 2."
    assert server.bodies[1]["messages"][-1] == {"role": "user", "content": NO_CALL}


def test_dense_requests_carry_no_sfi(misbehaving):
    server, url = misbehaving([ANSWERED])
    run(url)
    assert "sfi" not in server.bodies[0] and server.bodies[0]["tool_choice"] == "required"


def test_a_failing_server_is_tried_again(misbehaving):
    server, url = misbehaving([500, 503, ANSWERED])
    result = run(url)
    assert result.finish_reason == "answered" and len(result.turns) == 1 and len(server.bodies) == 3


def test_a_server_that_keeps_failing_ends_the_run(misbehaving, tmp_path):
    server, url = misbehaving([call("calculate", expression="1 + 1"), *[500] * (RETRIES + 1)])
    result = run(url, transcript=tmp_path / "t.json")
    assert result.finish_reason == "error" and result.error.startswith("InternalServerError") and result.answer is None
    assert len(server.bodies) == RETRIES + 2
    assert result.turns[-1].call.error == result.error and result.turns[-1].failed
    assert json.loads((tmp_path / "t.json").read_text())["messages"][-1]["content"] == "2"


def test_a_refused_request_is_not_tried_again(misbehaving):
    server, url = misbehaving([400])
    result = run(url)
    assert result.error.startswith("BadRequestError") and "as told" in result.error and len(server.bodies) == 1


def test_no_server_is_an_error_of_the_result():
    result = run("http://127.0.0.1:9", retries=0)
    assert result.finish_reason == "error" and result.error.startswith("APIConnectionError")


def test_a_broken_stream_is_tried_again_and_recorded(misbehaving):
    server, url = misbehaving([{**ANSWERED, "whole": False}, ANSWERED])
    result = run(url)
    assert result.finish_reason == "answered" and len(server.bodies) == 2
    assert [turn.failed for turn in result.turns] == [True, False]
    assert result.calls[0].error.startswith("BrokenStream") and result.calls[1].error is None


def test_streams_that_keep_breaking_end_the_run(misbehaving):
    server, url = misbehaving([{**ANSWERED, "whole": False}] * (RETRIES + 1))
    result = run(url)
    assert result.error.startswith("BrokenStream") and len(result.turns) == RETRIES + 1 == len(server.bodies)


def test_a_silent_server_times_out(misbehaving):
    server, url = misbehaving([30.0, 30.0])
    began = time.perf_counter()
    result = run(url, timeout=0.2, retries=1)
    assert result.error.startswith("APITimeoutError") and len(server.bodies) == 2
    assert time.perf_counter() - began < 20


def test_a_stream_that_stalls_times_out_and_is_not_tried_again(misbehaving):
    server, url = misbehaving([{**ANSWERED, "whole": False, "stall": 30}])
    result = run(url, timeout=0.2)
    assert result.error.startswith("APITimeoutError") and len(server.bodies) == 1


def test_tool_errors_go_back_to_the_model_and_the_step_is_repeated(misbehaving):
    server, url = misbehaving([call("calculate", expression="1 +"), call("calculate", expression="1 + 1"), ANSWERED])
    plan = (Step("calculate", "Add."), Step("answer", "Tell."))
    result = run(url, Task("sum", "What is 1 + 1?", 2, plan))
    assert [turn.failed for turn in result.turns] == [True, False, False]
    assert [turn.offered for turn in result.turns] == [["calculate"], ["calculate"], ["answer"]]
    told = [body["messages"][-1]["content"] for body in server.bodies]
    assert told == ["Now call calculate. Add.", "Now call calculate. Add.", "Now call answer. Tell."]
    assert server.bodies[1]["messages"][-2]["content"].startswith("Error: 1 +")


@pytest.mark.parametrize("arguments", ["", '{"text": "It i', "[]"])
def test_a_cut_call_is_no_call(misbehaving, arguments):
    server, url = misbehaving([{"tool": "answer", "arguments": arguments}, ANSWERED])
    result = run(url)
    assert result.turns[0].tool is None and result.turns[0].failed and result.finish_reason == "answered"
    assert server.bodies[1]["messages"][-1]["content"] == NO_CALL
    assert "tool_calls" not in server.bodies[1]["messages"][-2]


def test_an_unknown_tool_is_an_error_for_the_model(misbehaving):
    server, url = misbehaving([call("absent"), ANSWERED])
    assert run(url).turns[0].failed
    assert server.bodies[1]["messages"][-1]["content"] == "Error: there is no tool absent"


def test_a_call_that_runs_away_is_marked(misbehaving):
    runaway = {"tool": "answer", "arguments": '{"text": "line 1000000', "finish": "length"}
    _, url = misbehaving([runaway, ANSWERED])
    result = run(url)
    assert [turn.cut for turn in result.turns] == [True, False]
    assert (result.turns[0].tool, result.turns[0].arguments) == (None, '{"text": "line 1000000')


def test_a_step_without_an_instruction_is_asked_for_in_silence(misbehaving):
    server, url = misbehaving([ANSWERED])
    run(url, Task("sum", "What is 1 + 1?", 2, (Step("answer", ""),)))
    assert server.bodies[0]["messages"][-1]["content"] == "What is 1 + 1?"


def test_the_logbook_is_read_and_a_sentence_of_the_report_completed(misbehaving, tmp_path):
    pages = [call("read_pages", first=i, last=i + 1) for i in (1, 3, 5, 7)]
    server, url = misbehaving([*pages, {**SAID, "whole": False}, SAID])
    program = logbook(sentences=2)
    result = run(url, program.tasks[0], program, sfi=True, transcript=tmp_path / "t.json")
    assert result.answer == f"{program.tasks[0].begins} 237 coins." and program.tasks[0].check(result.answer)
    assert [turn.failed for turn in result.turns] == [False] * 4 + [True, False] and result.turns[-1].offered == []
    last = server.bodies[-1]
    assert last["messages"][-1] == {"role": "assistant", "content": program.tasks[0].begins}
    assert last["continue_final_message"] and not last["add_generation_prompt"] and last["sfi"] and "tools" not in last
    assert json.loads((tmp_path / "t.json").read_text())["messages"][-1]["content"] == result.answer


def test_without_a_plan_the_logbooks_last_step_is_the_sentence(misbehaving):
    _, url = misbehaving([call("read_pages", first=1, last=2), call("read_pages", first=2, last=1), SAID])
    program = logbook(sentences=2)
    result = run(url, program.tasks[0], program, planned=False, max_steps=3)
    assert result.answer and [turn.failed for turn in result.turns] == [False, True, False]


def test_the_step_limit_ends_a_run(misbehaving):
    _, url = misbehaving([call("calculate", expression=f"{i} + 1") for i in range(4)])
    result = run(url, max_steps=4)
    assert (result.answer, result.finish_reason, len(result.turns)) == (None, "step_limit", 4)


def test_a_circle_of_the_same_call_ends_a_run(misbehaving):
    server, url = misbehaving([call("calculate", expression="1 + 1")] * 9)
    result = run(url, max_steps=9)
    assert result.finish_reason == "step_limit" and len(result.turns) == REPEATS
    assert server.bodies[-1]["messages"][-1]["content"] == f"{NUDGE}\n2"


def by_branch(body):
    """Fork, work on the parts, the first slower than the others, and merge; branch 2 meets a server error."""
    last = body["messages"][-1]["content"]
    if last.startswith("This is branch"):
        number = int(last.split()[3].rstrip("."))
        time.sleep(0.3 if number == 1 else 0)
        return 400 if number == 2 else call("answer", text=f"Found {number}.")
    return call("answer", text="Merged 4.") if last.startswith("The branches") else call("fork", parts=["a", "b", "c"])


def test_branches_share_the_prefix_join_in_order_and_may_fail(misbehaving, tmp_path):
    _, url = misbehaving(by_branch)
    known = fork_join()
    program = ForkJoin("fork-join", known.about, known.toolbox, (task := ForkTask("parts", "Sum a, b and c.", 4),))
    result = run(url, task, program, planned=False, transcript=tmp_path / "t.json")
    assert (result.answer, result.finish_reason) == ("Merged 4.", "answered")
    record = json.loads((tmp_path / "t.json").read_text())
    joined = next(m["content"] for m in record["messages"] if m["content"].startswith("The branches"))
    assert joined.splitlines()[1:4] == ["a: Found 1.", "b: failed, BadRequestError", "c: Found 3."]
    shared = record["messages"][:4]
    assert len(record["branches"]) == 3 and all(branch[:4] == shared for branch in record["branches"])
    branches = [cost for cost in result.calls if cost.turn in (1, 2, 3)]
    assert max(cost.start for cost in branches) < min(cost.end for cost in branches if cost.seconds > 0.3)
    assert [cost.turn for cost in result.calls] == [0, 1, 2, 3, 4]
    assert sum(cost.error is not None for cost in branches) == 1
    assert "fork" not in result.turns[-1].offered and "answer" not in result.turns[0].offered


def test_a_transcript_has_what_was_offered_and_seen(misbehaving, tmp_path):
    server, url = misbehaving([call("calculate", expression="1 + 1"), ANSWERED])
    run(url, sfi=True, transcript=tmp_path / "new" / "t.json")
    record = json.loads((tmp_path / "new" / "t.json").read_text())
    assert (record["program"], record["task"], record["model"], record["sfi"]) == ("sums", "sum", "m", True)
    assert record["tools"] == server.bodies[0]["tools"]
    assert record["messages"][: len(server.bodies[1]["messages"])] == server.bodies[1]["messages"]
    assert record["turns"][0]["call"]["prompt_tokens"] == 9 and record["answer"] == "It is 2."
    roles = [message["role"] for message in record["messages"]]
    assert roles == ["system", "user", "assistant", "tool", "assistant", "tool"]


def test_make_client_takes_the_key_of_the_environment(monkeypatch):
    assert make_client("http://a").api_key == "none"
    monkeypatch.setenv("OPENAI_API_KEY", "key")
    client = make_client("http://a")
    assert client.api_key == "key" and str(client.base_url) == "http://a/v1/" and isinstance(client, openai.OpenAI)


def test_the_command_refuses_unknown_names():
    runner = CliRunner(env={"COLUMNS": "200", "TERM": "dumb"})
    wrong = runner.invoke(app, ["agent", "absent", "--server", "http://127.0.0.1:9"])
    assert wrong.exit_code == 2 and "'absent' is none of repo" in wrong.output
    wrong = runner.invoke(app, ["agent", "data", "--task", "absent", "--server", "http://127.0.0.1:9"])
    assert wrong.exit_code == 2 and "--task" in wrong.output and "gold of Canada" in wrong.output
