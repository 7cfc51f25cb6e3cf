"""The tools that list, search and read files: bounded, and never outside of their folder."""

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sfi_sglang.agents.corpus import MAX_HITS, MAX_LINES, MAX_NAMES, Tree
from sfi_sglang.agents.repo import file_tools
from sfi_sglang.agents.tools import ToolError
from tests.agent_tools import caller

SECRET = "secret = 1"


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / "tree"
    (root / "deep").mkdir(parents=True)
    (root / "a.py").write_text("".join(f"value_{i} = {i}\n" for i in range(1, 201)))
    (root / "deep" / "b.py").write_text("def find_me():\n    return 1\n")
    (tmp_path / "secret.py").write_text(f"{SECRET}\n")
    (root / "data.txt").write_text(f"{SECRET}\n")
    (root / "link.py").symlink_to(tmp_path / "secret.py")
    (root / "up").symlink_to(tmp_path)
    (root / "circle.py").symlink_to(root / "circle.py")
    os.mkfifo(root / "pipe.py")
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


@pytest.mark.parametrize("pattern", ["absent", SECRET])
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
        ("data.txt", 1, 2, "no such file"),
        ("circle.py", 1, 2, "no such file"),
        ("pipe.py", 1, 2, "no such file"),
        ("up/secret.py", 1, 2, "outside"),
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


PARTS = st.sampled_from(
    [
        "..",
        ".",
        "",
        "/",
        "~",
        "up",
        "deep",
        "link.py",
        "secret.py",
        "a.py",
        "b.py",
        "pipe.py",
        "circle.py",
        "data.txt",
        "\0",
    ]
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.booleans(), st.lists(st.one_of(PARTS, st.text(max_size=4)), min_size=1, max_size=7))
def test_no_path_leads_out_of_the_tree(tree, absolute, parts):
    path = "/".join([str(tree.root)] * absolute + parts)
    try:
        lines = tree.lines(path)
    except ToolError:
        return
    assert lines in ([f"value_{i} = {i}" for i in range(1, 201)], ["def find_me():", "    return 1"])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["list_files", "search", "read_lines"]), st.lists(st.one_of(PARTS, st.text(max_size=4))))
def test_no_call_of_a_tool_shows_what_is_outside(files, name, parts):
    text = "/".join(parts)
    try:
        said = files(name, path=text, start=1, end=99) if name == "read_lines" else files(name, pattern=text)
    except ToolError:
        return
    assert SECRET not in said and not {"secret.py", "link.py", "up"} & {word.split(":")[0] for word in said.split()}


@given(st.text(min_size=1, max_size=80))
def test_any_text_as_a_path_is_answered_or_refused(path):
    try:
        Tree().lines(path)
    except ToolError as error:
        assert str(error).startswith(path)


@pytest.mark.parametrize("arguments", ["", "[]", "{}", '{"pattern": "ab", "more": 1}', '{"pattern": "a'])
def test_wrong_arguments_are_tool_errors(tree, arguments):
    with pytest.raises(ToolError):
        file_tools(tree)[0].run(arguments)
