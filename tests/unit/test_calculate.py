"""The calculator that agents have."""

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfi_sglang.agents.tools import Calculate, ToolError, calculate


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
