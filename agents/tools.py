"""Tools over a tree of Python sources. A tool is a pydantic model of its arguments and a function of it."""

import ast
import operator
import sysconfig
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

STANDARD_LIBRARY = Path(sysconfig.get_path("stdlib"))
SKIPPED = {"__pycache__", "site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3", "encodings"}
MAX_HITS, CONTEXT = 6, 4
MAX_LINES, MAX_COLUMNS = 100, 120
MAX_DIGITS, MAX_EXPONENT = 50, 64


class ToolError(Exception):
    """A call that failed; the message is for the model to read."""


class Arguments(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class Search(Arguments):
    pattern: str = Field(min_length=2, max_length=60, description="exact text to find, e.g. def name")


class ReadLines(Arguments):
    path: str = Field(min_length=1, max_length=80, description="file, as in the search results")
    start: int = Field(ge=1, le=99999, description="first line number")
    end: int = Field(ge=1, le=99999, description="last line number")


class Calculate(Arguments):
    expression: str = Field(min_length=1, max_length=60, description="arithmetic, e.g. 12 * (3 + 4)")


class Answer(Arguments):
    text: str = Field(min_length=2, max_length=240, description="the answer in one or two sentences")


@dataclass(frozen=True)
class Tool:
    name: str
    description: str
    arguments: type[Arguments]
    function: Callable[[Any], str]

    def run(self, arguments: str) -> str:
        """Call with the model's arguments, a JSON text.

        Raises:
            ToolError: they are not valid, or the tool refused them.
        """
        try:
            return self.function(self.arguments.model_validate_json(arguments))
        except ValidationError as error:
            problems = (f"{'.'.join(map(str, item['loc'])) or 'arguments'}: {item['msg']}" for item in error.errors())
            raise ToolError("; ".join(problems)) from None

    def schema(self) -> dict[str, Any]:
        """The JSON schema of the arguments, without pydantic's titles."""
        schema = self.arguments.model_json_schema()
        schema.pop("title")
        for value in schema["properties"].values():
            value.pop("title")
        return schema

    def definition(self) -> dict[str, Any]:
        """The OpenAI `tools` entry; strict: the server's grammar admits nothing but valid arguments."""
        function = {"name": self.name, "description": self.description, "parameters": self.schema(), "strict": True}
        return {"type": "function", "function": function}


class Tree:
    """Python sources under `root`, addressed by relative path; nothing outside is read."""

    def __init__(self, root: Path = STANDARD_LIBRARY) -> None:
        self.root = root.resolve()

    @cached_property
    def paths(self) -> list[str]:
        """Relative paths, those near the root first."""
        found = (path.relative_to(self.root) for path in self.root.rglob("*.py"))
        kept = (path for path in found if SKIPPED.isdisjoint(path.parts))
        inside = (path for path in kept if (self.root / path).resolve().is_relative_to(self.root))
        return [path.as_posix() for path in sorted(inside, key=lambda path: (len(path.parts), path))]

    def lines(self, path: str) -> list[str]:
        """All lines of a file.

        Raises:
            ToolError: no such file, or it is outside of the root.
        """
        try:
            file = (self.root / path).resolve()
            if not file.is_relative_to(self.root):
                raise ToolError(f"{path}: outside of the document tree")
            return file.read_text(encoding="utf-8", errors="replace").splitlines()
        except (OSError, ValueError):
            raise ToolError(f"{path}: no such file") from None

    def search(self, call: Search) -> str:
        """Up to MAX_HITS places with CONTEXT lines after each."""
        hits: list[str] = []
        for path, number, lines in self._hits(call.pattern):
            if len(hits) == MAX_HITS:
                hits.append("(more hits were left out)")
                break
            shown = lines[number - 1 : number + CONTEXT]
            hits.append("\n".join(f"{path}:{number + i}: {line[:MAX_COLUMNS]}" for i, line in enumerate(shown)))
        if not hits:
            raise ToolError(f"no line contains {call.pattern!r}")
        return "\n--\n".join(hits)

    def _hits(self, pattern: str) -> Iterator[tuple[str, int, list[str]]]:
        for path in self.paths:
            lines = self.lines(path)
            yield from ((path, i, lines) for i, line in enumerate(lines, 1) if pattern in line)

    def read_lines(self, call: ReadLines) -> str:
        """Lines start to end, both included, at most MAX_LINES of them."""
        lines = self.lines(call.path)
        if call.end < call.start:
            raise ToolError(f"end ({call.end}) is before start ({call.start})")
        if call.start > len(lines):
            raise ToolError(f"{call.path} has only {len(lines)} lines")
        shown = lines[call.start - 1 : min(call.end, call.start + MAX_LINES - 1)]
        return "\n".join(f"{i}: {line[:MAX_COLUMNS]}" for i, line in enumerate(shown, call.start))


OPERATORS: dict[type[ast.AST], Callable[..., int | float]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod, ast.UAdd: operator.pos, ast.USub: operator.neg,
}  # fmt: skip


def calculate(call: Calculate) -> str:
    """The value of an expression of numbers, + - * / // % ** and parentheses."""
    try:
        return str(_value(ast.parse(call.expression.strip(), mode="eval").body))
    except (SyntaxError, ValueError, ArithmeticError, RecursionError, MemoryError) as error:
        raise ToolError(f"{call.expression}: {error}") from None


def _value(node: ast.expr) -> int | float:
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            return value
        case ast.UnaryOp(op=op, operand=operand) if type(op) in OPERATORS:
            return OPERATORS[type(op)](_value(operand))
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            return _power(_value(left), _value(right))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
            return OPERATORS[type(op)](_value(left), _value(right))
    raise ToolError(f"{ast.unparse(node)}: only numbers, + - * / // % ** and parentheses are known")


def _power(base: int | float, exponent: int | float) -> int | float:
    if abs(exponent) > MAX_EXPONENT or abs(base) > 10**MAX_DIGITS:
        raise ToolError("the power is too large")
    value = base**exponent
    if isinstance(value, complex):
        raise ToolError("the power is not real")
    return value


def toolbox(tree: Tree) -> list[Tool]:
    """The agent's tools; `answer` ends the run with its own text."""
    return [
        Tool("search", "find exact text in all files", Search, tree.search),
        Tool("read_lines", f"read at most {MAX_LINES} lines of a file", ReadLines, tree.read_lines),
        Tool("calculate", "compute an arithmetic expression", Calculate, calculate),
        Tool("answer", "give the final answer", Answer, lambda call: call.text),
    ]
