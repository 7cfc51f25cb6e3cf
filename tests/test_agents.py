"""The agent's tools alone, and its loop on the real server."""

import ast
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfi_sglang.agents.loop import make_client, run_agent
from sfi_sglang.agents.tasks import make_tasks
from sfi_sglang.agents.tools import MAX_HITS, MAX_LINES, Calculate, ToolError, Tree, calculate, toolbox


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / "tree"
    (root / "deep").mkdir(parents=True)
    (root / "a.py").write_text("".join(f"value_{i} = {i}\n" for i in range(1, 201)))
    (root / "deep" / "b.py").write_text("def find_me():\n    return 1\n")
    (tmp_path / "secret.py").write_text("secret = 1\n")
    (root / "link.py").symlink_to(tmp_path / "secret.py")
    return Tree(root)


@pytest.fixture
def run(tree):
    tools = {tool.name: tool for tool in toolbox(tree)}
    return lambda name, **arguments: tools[name].run(json.dumps(arguments))


def test_search_says_path_line_and_text(run):
    assert run("search", pattern="def find_me").splitlines()[0] == "deep/b.py:1: def find_me():"


def test_search_is_bounded(run):
    found = run("search", pattern="value_")
    assert found.count("--") == MAX_HITS
    assert found.endswith("(more hits were left out)")


def test_search_without_a_hit_is_an_error(run):
    with pytest.raises(ToolError, match="no line contains 'absent'"):
        run("search", pattern="absent")


def test_read_lines_counts_from_one_and_includes_the_end(run):
    assert run("read_lines", path="a.py", start=2, end=3) == "2: value_2 = 2\n3: value_3 = 3"


def test_read_lines_is_bounded(run):
    assert len(run("read_lines", path="a.py", start=1, end=200).splitlines()) == MAX_LINES


@pytest.mark.parametrize(
    ("path", "start", "end", "message"),
    [
        ("missing.py", 1, 2, "no such file"),
        ("deep", 1, 2, "no such file"),
        ("a\0.py", 1, 2, "no such file"),
        ("../secret.py", 1, 2, "outside"),
        ("/etc/passwd", 1, 2, "outside"),
        ("link.py", 1, 2, "outside"),
        ("a.py", 5, 4, "before start"),
        ("a.py", 201, 202, "only 200 lines"),
        ("a.py", 0, 4, "start: "),
        ("a.py", "1", 4, "start: "),
    ],
)
def test_read_lines_refuses(run, path, start, end, message):
    with pytest.raises(ToolError, match=message):
        run("read_lines", path=path, start=start, end=end)


def test_search_does_not_follow_a_link_out(run):
    with pytest.raises(ToolError, match="no line contains"):
        run("search", pattern="secret = 1")


@pytest.mark.parametrize("arguments", ["", "[]", "{}", '{"pattern": "ab", "more": 1}', '{"pattern": "a'])
def test_wrong_arguments_are_tool_errors(tree, arguments):
    with pytest.raises(ToolError):
        toolbox(tree)[0].run(arguments)


@pytest.mark.parametrize("tool", toolbox(Tree()), ids=lambda tool: tool.name)
def test_schema_is_strict(tool):
    function = tool.definition()["function"]
    schema = function["parameters"]
    assert function["strict"] is True
    assert schema["additionalProperties"] is False
    assert sorted(schema["required"]) == sorted(schema["properties"])


@pytest.mark.parametrize(
    "expression",
    ["1 +", "x", "open('a')", "1 / 0", "9 ** 999", "(-8) ** 0.5", "True", "'a' * 9", "[1]", "1 < 2", "2 ** 64 ** 64"],
)
def test_calculate_refuses(expression):
    with pytest.raises(ToolError):
        calculate(Calculate(expression=expression))


NUMBERS = st.integers(0, 999).map(str)
EXPRESSIONS = st.recursive(
    NUMBERS,
    lambda inner: st.tuples(inner, st.sampled_from(["+", "-", "*", "//", "%"]), inner).map(" ".join),
    max_leaves=6,
)


@given(EXPRESSIONS.filter(lambda text: len(text) <= 60))
def test_calculate_agrees_with_python(expression):
    try:
        expected = str(eval(compile(ast.parse(expression, mode="eval"), "", "eval")))
    except ZeroDivisionError:
        with pytest.raises(ToolError):
            calculate(Calculate(expression=expression))
    else:
        assert calculate(Calculate(expression=expression)) == expected


def test_tasks_check_the_last_number():
    tasks = make_tasks(Tree())
    assert len(tasks) >= 6
    for task in tasks:
        assert task.check(f"In POP3 2.5 it is {task.expected}.")
        assert not task.check(f"It is {task.expected + 1}.")
        assert not task.check(None)


@pytest.mark.server
@pytest.mark.parametrize("sfi", [None, {"budget": 256}], ids=["dense", "sfi"])
def test_agent_loop_live(server, tmp_path, sfi):
    tree, limit, path = Tree(), 5, tmp_path / "run" / "transcript.json"
    task, tools, client = make_tasks(tree)[0], toolbox(tree), make_client(server)
    model = client.models.list().data[0].id
    result = run_agent(client, model, task.question, tools, plan=task.plan, sfi=sfi, max_steps=limit, transcript=path)
    record = json.loads(path.read_text())
    assert result.finish_reason in ("answered", "step_limit")
    assert (result.answer is not None) == (result.finish_reason == "answered")
    assert 1 <= result.steps <= limit
    assert len(record["turns"]) == result.steps

    by_name = {tool.name: tool for tool in tools}
    messages = record["messages"]
    assert [message["role"] for message in messages[:2]] == ["system", "user"]
    calls = [(i, call) for i, message in enumerate(messages) for call in message.get("tool_calls", [])]
    assert calls
    for i, call in calls:
        by_name[call["function"]["name"]].arguments.model_validate_json(call["function"]["arguments"])
        assert messages[i + 1]["role"] == "tool"
        assert messages[i + 1]["tool_call_id"] == call["id"]
    for turn in result.turns:
        assert turn.prompt_tokens > 0
        assert turn.seconds >= turn.decode_seconds >= 0
        assert (turn.sfi is not None) == (sfi is not None)
        if turn.sfi:
            assert turn.sfi["slow_steps"] + turn.sfi["fast_steps"] == turn.completion_tokens - 1
