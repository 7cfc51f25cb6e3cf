"""Questions about the standard library's sources. The right answers are read from the files at run time."""

import ast
import re
from collections.abc import Callable
from dataclasses import dataclass

from sfi_sglang.agents.loop import Step
from sfi_sglang.agents.tools import Tree

NUMBER = re.compile(r"(?<![\w.])\d+(?![\w]|\.\d)")


@dataclass(frozen=True)
class Task:
    name: str
    question: str
    plan: tuple[Step, ...]
    expected: int

    def check(self, answer: str | None) -> bool:
        """Whether the answer's last number, names like POP3 aside, is the expected one."""
        numbers = NUMBER.findall((answer or "").replace(",", ""))
        return bool(numbers) and int(numbers[-1]) == self.expected


def make_tasks(tree: Tree) -> list[Task]:
    """Seven questions with one number as the answer.

    Raises:
        LookupError: the tree is not the standard library's.
    """
    return [
        _definition(tree, "textwrap.py", "shorten"),
        _constant(tree, "imaplib.py", "IMAP4_SSL_PORT"),
        _constant(tree, "poplib.py", "POP3_PORT"),
        _constant(tree, "ftplib.py", "MAXLINE"),
        _constant(tree, "http/client.py", "HTTPS_PORT"),
        _constant(tree, "tarfile.py", "BLOCKSIZE"),
        _total(tree, "smtplib.py", "SMTP_PORT", "SMTP_SSL_PORT"),
    ]


def _definition(tree: Tree, path: str, name: str) -> Task:
    line = _find(tree, path, lambda node: node.lineno if _defines(node, name) else None)
    question = f"On which line of {path} is `def {name}` defined?"
    sentence = f"In {path}, {name} is defined on line"
    return Task(f"line of {name}", question, _look_up(path, f"def {name}", sentence), line)


def _constant(tree: Tree, path: str, name: str) -> Task:
    question = f"In {path}, what number is {name}?"
    plan = _look_up(path, f"{name} =", f"The value of {name} in {path} is")
    return Task(f"value of {name}", question, plan, _value(tree, path, name))


def _total(tree: Tree, path: str, first: str, second: str) -> Task:
    total = _value(tree, path, first) + _value(tree, path, second)
    question = f"In {path}, what is {first} plus {second}?"
    values = [Step("search", f'The pattern is "{name} =".') for name in (first, second)]
    calculate = Step("calculate", f"The expression is the number of {first}, a plus sign, the number of {second}.")
    plan = (*_read(path)[:1], *values, calculate, _answer(f"The sum of {first} and {second} is"))
    return Task(f"{first} + {second}", question, plan, total)


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


def _value(tree: Tree, path: str, name: str) -> int:
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
