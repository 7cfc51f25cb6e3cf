"""The agents' tools and tasks alone."""

import ast
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfi_sglang.agents import data as database_program
from sfi_sglang.agents.corpus import MAX_HITS, MAX_LINES, MAX_NAMES, Tree
from sfi_sglang.agents.data import MAX_ROWS, TABLES, Database, data
from sfi_sglang.agents.forkjoin import fork_join
from sfi_sglang.agents.program import Task
from sfi_sglang.agents.repo import file_tools, repo
from sfi_sglang.agents.research import MAX_NOTES, Fact, research
from sfi_sglang.agents.tools import Calculate, ToolError, calculate

PROGRAMS = [repo(), data(), research(), fork_join()]


def caller(tools):
    by_name = {tool.name: tool for tool in tools}
    return lambda name, **arguments: by_name[name].run(json.dumps(arguments))


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
def files(tree):
    return caller(file_tools(tree))


def test_list_files_counts_and_names(files):
    assert files("list_files", pattern="*.py") == "2 found\na.py: 200 lines\ndeep/b.py: 2 lines"
    assert files("list_files", pattern="deep/*") == "1 found\ndeep/b.py: 2 lines"
    with pytest.raises(ToolError, match="no name matches 'link"):
        files("list_files", pattern="link.py")


def test_list_files_is_bounded():
    lines = caller(file_tools(Tree()))("list_files", pattern="*").splitlines()
    assert len(lines) == MAX_NAMES + 2 and int(lines[0].split()[0]) > MAX_NAMES


def test_search_says_path_line_and_text(files):
    assert files("search", pattern="def find_me").splitlines()[0] == "deep/b.py:1: def find_me():"


def test_search_is_bounded(files):
    found = files("search", pattern="value_")
    assert found.count("--") == MAX_HITS
    assert found.endswith("(more hits were left out)")


@pytest.mark.parametrize("pattern", ["absent", "secret = 1"])
def test_search_without_a_hit_or_outside_of_the_tree_is_an_error(files, pattern):
    with pytest.raises(ToolError, match=f"no line contains '{pattern}'"):
        files("search", pattern=pattern)


def test_read_lines_counts_from_one_includes_the_end_and_is_bounded(files):
    assert files("read_lines", path="a.py", start=2, end=3) == "2: value_2 = 2\n3: value_3 = 3"
    assert len(files("read_lines", path="a.py", start=1, end=200).splitlines()) == MAX_LINES


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
def test_read_lines_refuses(files, path, start, end, message):
    with pytest.raises(ToolError, match=message):
        files("read_lines", path=path, start=start, end=end)


@pytest.mark.parametrize("arguments", ["", "[]", "{}", '{"pattern": "ab", "more": 1}', '{"pattern": "a'])
def test_wrong_arguments_are_tool_errors(tree, arguments):
    with pytest.raises(ToolError):
        file_tools(tree)[0].run(arguments)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_schemas_are_strict(program):
    for tool in program.toolbox():
        function = tool.definition()["function"]
        schema = function["parameters"]
        assert function["strict"] is True and schema["additionalProperties"] is False
        assert sorted(schema["required"]) == sorted(schema["properties"])


@pytest.mark.parametrize(
    "expression",
    ["1 +", "x", "open('a')", "1 / 0", "9 ** 999", "(-8) ** 0.5", "True", "'a' * 9", "[1]", "1 < 2", "2 ** 64 ** 64"],
)
def test_calculate_refuses(expression):
    with pytest.raises(ToolError):
        calculate(Calculate(expression=expression))


EXPRESSIONS = st.recursive(
    st.integers(0, 999).map(str),
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


@pytest.fixture(scope="module")
def query():
    run = caller(data().toolbox())
    return lambda sql: run("query", sql=sql)


def test_query_shows_columns_with_values_and_is_bounded(query):
    assert query("SELECT nation, gold FROM medals WHERE gold = 9") == "nation = Canada, gold = 9"
    assert query("SELECT nation FROM medals WHERE gold = 1") == "no rows"
    many = query("SELECT pop FROM gapminder").splitlines()
    assert len(many) == MAX_ROWS + 1 and many[-1] == "(more rows were left out)"


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("DELETE FROM medals", "not authorized"),
        ("INSERT INTO medals VALUES ('a', 1, 2, 3)", "not authorized"),
        ("DROP TABLE medals", "not authorized"),
        ("ATTACH '/etc/passwd' AS other", "not authorized"),
        ("PRAGMA query_only = 0", "not authorized"),
        ("SELECT 1; SELECT 2", "one statement"),
        ("SELECT * FROM absent", "no such table"),
        ("SELECT gold FROM medals WHERE", "incomplete input|syntax error"),
        ("SELECT zeroblob(1000000000)", "too big"),
        ("SELECT load_extension('x')", "not authorized|no such function"),
    ],
)
def test_query_refuses(query, sql, message):
    with pytest.raises(ToolError, match=message):
        query(sql)


def test_a_query_ends_at_its_time_limit(query, monkeypatch):
    monkeypatch.setattr(database_program, "MAX_SECONDS", 0.05)
    with pytest.raises(ToolError, match=r"took more than 0\.05 s"):
        query("SELECT count(*) FROM gapminder a, gapminder b, gapminder c")


def test_the_database_file_is_as_it_was_and_goes_with_its_object():
    database = Database()
    before = database.path.read_bytes()
    with pytest.raises(ToolError):
        database.rows("UPDATE medals SET gold = 0")
    assert database.path.read_bytes() == before
    path = database.path
    del database
    assert not path.exists()


@pytest.mark.parametrize("table", TABLES)
def test_cells_have_the_type_of_their_column(table):
    database = Database()
    for column in TABLES[table].split(", "):
        name, kind = column.split()[:2]
        assert database.rows(f"SELECT DISTINCT typeof({name}) FROM {table}")[1] == [(kind.lower(),)]


def test_schema_names_columns_and_rows():
    schema = caller(data().toolbox())
    assert [line.split("(")[0] for line in schema("schema", table="*").splitlines()] == list(TABLES)
    assert schema("schema", table="medals").endswith("gold INTEGER, silver INTEGER, bronze INTEGER): 3 rows")
    with pytest.raises(ToolError, match="there is no table absent"):
        schema("schema", table="absent")


def test_notes_belong_to_one_run():
    first, second = (caller(research().toolbox()) for _ in range(2))
    assert first("list_notes", newest=3) == "no notes"
    assert first("write_note", text="The tab size is 8.") == "note 1 written"
    first("write_note", text="The debugger lists 11 lines.")
    assert first("list_notes", newest=1) == "2. The debugger lists 11 lines."
    assert first("list_notes", newest=3).startswith("1. The tab size is 8.\n2. ")
    assert second("list_notes", newest=3) == "no notes"
    for _ in range(MAX_NOTES - 2):
        first("write_note", text="more")
    with pytest.raises(ToolError, match="notes already"):
        first("write_note", text="too many")


def test_sections_are_listed_searched_and_read():
    run = caller(research().toolbox())
    assert "async: " in run("list_sections", pattern="as*")
    assert "async:" in run("search", pattern="Coroutine function definition")
    assert run("read_section", path="async", start=1, end=1) == "1: Coroutines"
    with pytest.raises(ToolError, match="no such section"):
        run("read_section", path="absent", start=1, end=1)


def test_a_fact_that_the_document_lacks_is_an_error():
    with pytest.raises(LookupError, match="async"):
        Fact("async", r"absent (\d+)", "absent", "").value  # noqa: B018


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_tasks_check_their_answer_and_never_tell_it(program):
    names = {tool.name for tool in program.toolbox()}
    assert len(program.tasks) >= 3 and program.task(program.tasks[1].name) is program.tasks[1]
    for task in program.tasks:
        steps = [*task.plan, *getattr(task, "branch", ()), *getattr(task, "merge", ())]
        assert {step.tool for step in steps} <= names
        values = task.expected if isinstance(task.expected, tuple) else (task.expected,)
        said = " and ".join(map(str, values))
        assert task.check(f"In POP3 2.5 it is {said}.") and not task.check(None)
        assert not task.check(f"It is {said}9.")
        answers = [step.instruction for step in steps if step.tool in ("answer", "write_note", "calculate")]
        assert answers and not any(task.check(text) for text in [task.question, *answers])
    with pytest.raises(ValueError, match=f"task: {program.name} has no 'absent', but"):
        program.task("absent")


def test_several_numbers_are_expected_in_their_order():
    task = Task("ports", "Which?", (993, 1000))
    assert task.check("993, 1000") and task.check("For 7 ports: 993 and 1,000.")
    assert not task.check("1000, 993") and not task.check("1000") and not task.check("993, 1000, 5")


def test_a_text_is_expected_as_whole_words():
    task = Task("category", "Which?", "Lo")
    assert task.check("The category is Lo.") and not task.check("Lost") and not task.check("lo")
