"""What a tool is: a pydantic model of its arguments and a function of it. And the tools that every program has."""

import ast
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

MAX_DIGITS, MAX_EXPONENT = 50, 64


class ToolError(Exception):
    """A call that failed; the message is for the model to read."""


class Arguments(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


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


class Calculate(Arguments):
    expression: str = Field(min_length=1, max_length=60, description="arithmetic, e.g. 12 * (3 + 4)")


class Answer(Arguments):
    text: str = Field(min_length=2, max_length=240, description="the answer in one or two sentences")


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


CALCULATE = Tool("calculate", "compute an arithmetic expression", Calculate, calculate)
ANSWER = Tool("answer", "give the final answer", Answer, lambda call: call.text)
