"""Questions about the standard library's sources. The right answers are read from the files at run time."""

import ast
import re
from collections.abc import Callable
from dataclasses import dataclass

from sfi_sglang.agents.tools import Tree

LOOK_UP = ("search", "read_lines", "answer")
COMBINE = ("search", "search", "calculate", "answer")
NUMBER = re.compile(r"(?<![\w.])\d+(?![\w]|\.\d)")


@dataclass(frozen=True)
class Task:
    name: str
    question: str
    plan: tuple[str, ...]
    expected: int

    def check(self, answer: str | None) -> bool:
        """Whether the answer's last number, names like POP3 aside, is the expected one."""
        numbers = NUMBER.findall((answer or "").replace(",", ""))
        return bool(numbers) and int(numbers[-1]) == self.expected


def make_tasks(tree: Tree) -> list[Task]:
    """Six questions with one number as the answer.

    Raises:
        LookupError: the tree is not the standard library's.
    """
    return [
        _definition(tree, "textwrap.py", "shorten"),
        _definition(tree, "fnmatch.py", "translate"),
        _definition(tree, "colorsys.py", "hls_to_rgb"),
        _constant(tree, "imaplib.py", "IMAP4_SSL_PORT"),
        _constant(tree, "poplib.py", "POP3_PORT"),
        _constant(tree, "ftplib.py", "MAXLINE"),
        _total(tree, "smtplib.py", "SMTP_PORT", "SMTP_SSL_PORT"),
    ]


def _definition(tree: Tree, path: str, name: str) -> Task:
    line = _find(tree, path, lambda node: node.lineno if _defines(node, name) else None)
    question = f"On which line of {path} is the function `def {name}` defined?"
    return Task(f"line of {name}", question, LOOK_UP, line)


def _constant(tree: Tree, path: str, name: str) -> Task:
    question = f"What is the value of `{name} =` in {path}?"
    return Task(f"value of {name}", question, LOOK_UP, _value(tree, path, name))


def _total(tree: Tree, path: str, first: str, second: str) -> Task:
    total = _value(tree, path, first) + _value(tree, path, second)
    question = f"What is the sum of `{first} =` and `{second} =` in {path}?"
    return Task(f"{first} + {second}", question, COMBINE, total)


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
