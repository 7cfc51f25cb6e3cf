"""Questions about the standard library's sources. The right answers are read from the files at run time."""

import ast
from collections.abc import Callable

from sfi_sglang.agents.corpus import MAX_LINES, Corpus, ListNames, ReadLines, Search, Tree
from sfi_sglang.agents.loop import Step
from sfi_sglang.agents.program import Program, Task
from sfi_sglang.agents.tools import ANSWER, CALCULATE, Tool

ABOUT = "You answer questions about Python source files."


def repo(tree: Tree | None = None) -> Program:
    """The program over the standard library of this Python.

    Raises:
        LookupError: the tree is not the standard library's.
    """
    tree = tree or Tree()
    tools = [*file_tools(tree), CALCULATE, ANSWER]
    return Program("repo", ABOUT, lambda: tools, tuple(make_tasks(tree)))


def file_tools(tree: Corpus) -> list[Tool]:
    return [
        Tool("list_files", "list the files whose path matches", ListNames, tree.list_names),
        Tool("search", "find exact text in all files", Search, tree.search),
        Tool("read_lines", f"read at most {MAX_LINES} lines of a file", ReadLines, tree.read_lines),
    ]


def make_tasks(tree: Tree) -> list[Task]:
    """Questions with one number as the answer.

    Raises:
        LookupError: the tree is not the standard library's.
    """
    return [
        _count(tree, "json"),
        _definition(tree, "textwrap.py", "shorten"),
        _constant(tree, "imaplib.py", "IMAP4_SSL_PORT"),
        _constant(tree, "poplib.py", "POP3_PORT"),
        _constant(tree, "ftplib.py", "MAXLINE"),
        _constant(tree, "http/client.py", "HTTPS_PORT"),
        _constant(tree, "tarfile.py", "BLOCKSIZE"),
        _total(tree, "smtplib.py", "SMTP_PORT", "SMTP_SSL_PORT"),
    ]


def _count(tree: Tree, package: str) -> Task:
    files = sum(path.startswith(f"{package}/") for path in tree.paths)
    if not files:
        raise LookupError(f"{package}: not in the tree that the tasks expect")
    question = f"How many Python files does the package {package} have?"
    listing = Step("list_files", f'The pattern is "{package}/*.py".')
    return Task(f"files of {package}", question, files, (listing, _answer(f"The number of files in {package} is")))


def _definition(tree: Tree, path: str, name: str) -> Task:
    line = _find(tree, path, lambda node: node.lineno if _defines(node, name) else None)
    question = f"On which line of {path} is `def {name}` defined?"
    sentence = f"In {path}, {name} is defined on line"
    return Task(f"line of {name}", question, line, _look_up(path, f"def {name}", sentence))


def _constant(tree: Tree, path: str, name: str) -> Task:
    question = f"In {path}, what number is {name}?"
    plan = _look_up(path, f"{name} =", f"The value of {name} in {path} is")
    return Task(f"value of {name}", question, constant(tree, path, name), plan)


def _total(tree: Tree, path: str, first: str, second: str) -> Task:
    total = constant(tree, path, first) + constant(tree, path, second)
    question = f"In {path}, what is {first} plus {second}?"
    values = [Step("search", f'The pattern is "{name} =".') for name in (first, second)]
    calculate = Step("calculate", f"The expression is the number of {first}, a plus sign, the number of {second}.")
    plan = (*_read(path)[:1], *values, calculate, _answer(f"The sum of {first} and {second} is"))
    return Task(f"{first} + {second}", question, total, plan)


def _look_up(path: str, pattern: str, sentence: str) -> tuple[Step, ...]:
    """Read, then search, so that the place is near the end of the context: a tiny model needs that."""
    return (*_read(path), Step("search", f'The pattern is "{pattern}".'), _answer(sentence))


def _read(path: str) -> tuple[Step, Step]:
    return (
        Step("read_lines", f'The path is "{path}", start is 1, end is 100.'),
        Step("read_lines", f'The path is "{path}", start is 101, end is 200.'),
    )


def _answer(sentence: str) -> Step:
    """A sentence to complete: asked plainly, a tiny model repeats the question."""
    return Step("answer", f'Its text must be "{sentence}" and then the number.')


def constant(tree: Tree, path: str, name: str) -> int:
    """The number that a module assigns to a name.

    Raises:
        LookupError: it does not.
    """
    return _find(tree, path, lambda node: _assigned(node, name))


def _find(tree: Tree, path: str, pick: Callable[[ast.stmt], int | None]) -> int:
    for node in ast.parse("\n".join(tree.lines(path))).body:
        if (found := pick(node)) is not None:
            return found
    raise LookupError(f"{path}: not the file that the tasks expect")


def _defines(node: ast.stmt, name: str) -> bool:
    return isinstance(node, ast.FunctionDef) and node.name == name


def _assigned(node: ast.stmt, name: str) -> int | None:
    match node:
        case ast.Assign(targets=[ast.Name(id=found)], value=ast.Constant(value=int() as value)) if found == name:
            return value
    return None
