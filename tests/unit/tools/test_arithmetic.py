"""The calculator: right, exact, and unimpressed by anything that is no arithmetic."""

import contextlib
import operator
import time
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collegium.domain.errors import ToolError
from collegium.tools.builtin import calculate
from collegium.tools.builtin.arithmetic import LIMIT_CHARS, evaluate, show
from collegium.tools.context import ToolContext


@pytest.mark.parametrize(
    ("expression", "shown", "is_exact"),
    [
        ("0.1 + 0.2", "0.3", True),
        ("1 / 3", "0.3333333333333333333333333333", False),
        ("1/3 + 1/3 + 1/3", "1", True),
        ("2 ** 0.5", "1.414213562373095048801688724", False),
        ("sqrt(2) ** 2", "2", False),
        ("sqrt(6.25)", "2.5", True),
        ("-7 // 2", "-4", True),
        ("-7 % 3", "2", True),
        ("-2 ** 2", "-4", True),
        ("10 ** -3", "0.001", True),
        ("0 ** 0", "1", True),
        ("round(2.345, 2)", "2.35", True),
        ("round(-2.5)", "-3", True),
        ("round(1234.5, -2)", "1200", True),
        ("min(3, 1, 2) + max([3, 1, 2]) + sum((1, 2)) + abs(-4)", "11", True),
        ("avg(1, 2, 4) * 3", "7", True),
        ("15% of 80", "12", True),
        ("200 * 15%", "30", True),
        ("100% - 15%", "0.85", True),
        ("20% + 5", "5.2", True),
        ("10 % 3", "1", True),
        ("percent(15, 80)", "12", True),
        ("6 × 7 − 2", "40", True),  # noqa: RUF001
        ("1_000.5 * 2", "2001", True),
        ("1.0041666 ** 360", "4.467637534335691395717352825", False),
        ("(-1.00001) ** 1001", "-1.01006021708316346672000668", False),
        ("2 ** 200", str(2**200), True),
        ("1e30 + 1", str(10**30 + 1), True),
    ],
)
def test_results(expression: str, shown: str, is_exact: bool):
    assert show(evaluate(expression)) == (shown, is_exact)


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("", "the expression is empty"),
        ("2 +", "is no arithmetic expression"),
        ("price * 2", "'price' is no arithmetic"),
        ("__import__('os').system('id')", "is no arithmetic"),
        ("(1).__class__", "is no arithmetic"),
        ("[x for x in (1, 2)]", "is no arithmetic"),
        ("1 if 1 else 2", "is no arithmetic"),
        ("1 < 2", "is no arithmetic"),
        ("lambda: 1", "is no arithmetic"),
        ("(y := 1)", "is no arithmetic"),
        ("f'{1}'", "is no arithmetic"),
        ("sum(*[1], 2)", "is no arithmetic"),
        ("round(1.5, ndigits=1)", "call functions by name with numbers only"),
        ("'a' * 3", "is no number"),
        ("True + 1", "is no number"),
        ("3j", "is no number"),
        ("nan", "is no arithmetic"),
        ("exp(1)", "there is no function 'exp': there are abs, avg"),
        ("sqrt(1, 2)", "sqrt takes one number"),
        ("max()", "needs at least one number"),
        ("round(1, 0.5)", "a whole number of digits"),
        ("1,234 + 1", "without thousands separators"),
        ("2 ^ 3", "^ is no power, write **"),
        ("2 @ 3", "@ is unknown"),
        ("1 << 9", "the operator LShift"),
        ("1 / 0", "division by zero"),
        ("1 % 0", "division by zero"),
        ("0 ** -1", "division by zero"),
        ("sqrt(-1)", "no real square root"),
        ("(-8) ** (1 / 3)", "no real power"),
        ("10 % -3", "two meanings"),
        ("9 ** 9 ** 9", "too many digits"),
        ("2 ** 10000", "too many digits"),
        ("1e999999", "too large or too small"),
        ("1e1000 * 1e1000", "too many digits"),
        ("round(1, 99999)", "at most"),
        ("1e-900 * 1e-900", "too many digits"),
        ("-" * 500 + "1", "nested deeper"),
        ("(" * 400 + "1" + ")" * 400, "is no arithmetic expression"),
        ("1 + " * LIMIT_CHARS + "1", "calculate in parts"),
        ("1\0", "is no arithmetic expression"),
    ],
)
def test_what_it_refuses_and_what_it_says(expression: str, said: str):
    with pytest.raises(ToolError) as caught:
        evaluate(expression)
    assert said in str(caught.value)


OPERATORS = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv, "//": operator.floordiv}
decimals = st.decimals(-1000, 1000, places=3, allow_nan=False)


@given(decimals, st.sampled_from(sorted(OPERATORS)), decimals)
def test_it_agrees_with_fractions(left, sign: str, right):
    if sign.startswith("/") and right == 0:
        return
    expected = Fraction(OPERATORS[sign](Fraction(left), Fraction(right)))
    assert evaluate(f"({left}) {sign} ({right})").number == expected


@given(st.text(st.sampled_from("0123456789.e+-*/%(), sqrtoundfmaxp'\"_[]"), max_size=60))
def test_any_text_gives_a_number_or_a_reason(expression: str):
    with contextlib.suppress(ToolError):
        text, _ = show(evaluate(expression))
        assert text


@pytest.mark.parametrize(
    "expression", ["*".join(["9**999"] * 120), "**".join(["1.1"] * 200), "+".join(["sqrt(2)"] * 110)]
)
def test_nothing_takes_long(expression: str):
    begun = time.process_time()
    with contextlib.suppress(ToolError):
        evaluate(expression)
    assert time.process_time() - begun < 0.5


async def test_the_tool_says_when_a_result_is_rounded(context: ToolContext):
    exact = await calculate.call({"expression": " 2 * 3.50 "}, context)
    assert (exact.text, exact.data) == ("2 * 3.50 = 7", {"value": "7", "is_exact": True})
    rounded = await calculate.call({"expression": "2/3"}, context)
    assert rounded.text == "2/3 ≈ 0.6666666666666666666666666667"
    assert not (await calculate.call({"expression": "2/0"}, context)).is_ok
