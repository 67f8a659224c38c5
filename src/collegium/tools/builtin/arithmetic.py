"""Arithmetic over Python's syntax tree: nothing is run, numbers are exact fractions, every size is capped."""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation, localcontext
from fractions import Fraction
from typing import Final

import msgspec

from collegium.domain.errors import ToolError

LIMIT_CHARS: Final = 1_000
LIMIT_DEPTH: Final = 60
LIMIT_BITS: Final = 4_096
"""Size of a numerator or denominator: about 1,230 digits."""
LIMIT_EXPONENT: Final = 1_000
SHOWN_DIGITS: Final = 28
EXACT_DIGITS: Final = 60

# Only where % is not the remainder: no number follows, or it stands close to its own number and a sign follows.
_PERCENT: Final = re.compile(r"(\d+(?:\.\d+)?|\.\d+)(?:\s*%(?=\s*(?:$|[),*/]|of\b))|%(?=\s*[+-]))")
_AMBIGUOUS: Final = re.compile(r"%\s*[+-]")
_SIGNS: Final = str.maketrans("\u00d7\u00b7\u00f7\u2212\u2013", "**/--")  # as typeset


class Value(msgspec.Struct, frozen=True):
    """A number, and whether it is exactly the result."""

    number: Fraction
    is_exact: bool = True


def evaluate(expression: str) -> Value:
    """The value of ``expression``.

    Raises:
        ToolError: It cannot be read, uses something that is no arithmetic, divides by zero, or grows beyond
            the caps. The text says which part and what to write instead.
    """
    if len(expression) > LIMIT_CHARS:
        raise ToolError(
            f"the expression has {len(expression):,} characters, at most {LIMIT_CHARS:,}: calculate in parts"
        )
    source = _PERCENT.sub(r"(\1/100)", expression.strip().translate(_SIGNS))
    source = re.sub(r"/100\)\s*of\b", "/100) *", source)
    if not source:
        raise ToolError("the expression is empty: write for example 2 * (3 + 4)")
    if _AMBIGUOUS.search(source):
        raise ToolError(
            "% followed by a sign has two meanings: write 20/100 for 20 percent, 20 % (-5) for the remainder"
        )
    if re.search(r"\d,\d{3}\b", source) and "(" not in source:
        raise ToolError("write numbers without thousands separators: 1234.5 instead of 1,234.5")
    try:
        tree = ast.parse(source, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        place = f" near character {error.offset}" if isinstance(error, SyntaxError) and error.offset else ""
        raise ToolError(
            f"{expression!r} is no arithmetic expression{place}: use numbers, + - * / // % ** ( )"
        ) from error
    return _value(tree.body, source, 0)


def show(value: Value) -> tuple[str, bool]:
    """``value`` as decimal digits, and whether they are the whole truth: thirds end after 28 digits."""
    number = value.number
    if number.denominator == 1:
        return str(number.numerator), value.is_exact
    with localcontext() as context:
        context.prec = EXACT_DIGITS
        digits = Decimal(number.numerator) / Decimal(number.denominator)
        is_exact = value.is_exact and Fraction(digits) == number
        if not is_exact:
            context.prec = SHOWN_DIGITS
            digits = +digits
    text = f"{digits:f}" if -20 < digits.adjusted() < 40 else f"{digits}"
    return (text.rstrip("0").rstrip(".") if "." in text and "E" not in text else text), is_exact


def _value(node: ast.expr, source: str, depth: int) -> Value:
    if depth > LIMIT_DEPTH:
        raise ToolError(f"the expression is nested deeper than {LIMIT_DEPTH} levels: calculate in parts")
    match node:
        case ast.Constant():
            return _constant(node, source)
        case ast.UnaryOp(op=ast.USub()):
            inner = _value(node.operand, source, depth + 1)
            return Value(-inner.number, inner.is_exact)
        case ast.UnaryOp(op=ast.UAdd()):
            return _value(node.operand, source, depth + 1)
        case ast.BinOp():
            left = _value(node.left, source, depth + 1)
            right = _value(node.right, source, depth + 1)
            return _binary(node.op, left, right)
        case ast.Call(func=ast.Name(id=name), keywords=[]):
            return _call(name, _arguments(node.args, source, depth + 1))
    raise ToolError(f"{_part(node, source)} is no arithmetic: {_advice(node)}")


def _constant(node: ast.Constant, source: str) -> Value:
    if isinstance(node.value, bool) or not isinstance(node.value, (int, float)):
        raise ToolError(f"{_part(node, source)} is no number")
    if isinstance(node.value, int):
        return _checked(Fraction(node.value))
    # The digits as written, not the float they would become: 0.1 is a tenth.
    try:
        written = Decimal(ast.get_source_segment(source, node) or "")
    except InvalidOperation as error:
        raise ToolError(f"{_part(node, source)} is no number") from error
    if abs(written.adjusted()) > LIMIT_EXPONENT:
        raise ToolError(f"{_part(node, source)} is too large or too small: at most 1e{LIMIT_EXPONENT}")
    return _checked(Fraction(written))


def _binary(op: ast.operator, left: Value, right: Value) -> Value:
    is_exact = left.is_exact and right.is_exact
    if isinstance(op, ast.Pow):
        return _power(left, right)
    function = _OPERATORS.get(type(op))
    if function is None:
        sign = {"BitXor": "^ is no power, write **", "MatMult": "@ is unknown"}.get(type(op).__name__, "")
        raise ToolError(sign or f"the operator {type(op).__name__} is no arithmetic: use + - * / // % **")
    try:
        return _checked(Fraction(function(left.number, right.number)), is_exact)
    except ZeroDivisionError as error:
        raise ToolError("division by zero: the right side of / // or % is 0") from error


def _power(left: Value, right: Value) -> Value:
    base, exponent = left.number, right.number
    if base == 0 and exponent < 0:
        raise ToolError("division by zero: 0 to a negative power")
    if exponent.denominator != 1:
        if base < 0:
            raise ToolError("a negative number has no real power with a fraction")
        return _root(left, right)
    bits = max(abs(base.numerator), base.denominator).bit_length()
    if bits * abs(int(exponent)) <= LIMIT_BITS:
        return _checked(base ** int(exponent), left.is_exact and right.is_exact)
    magnitude = _root(Value(abs(base)), right)
    return Value(-magnitude.number if base < 0 and exponent % 2 else magnitude.number, is_exact=False)


def _root(base: Value, exponent: Value) -> Value:
    """A power that is no fraction of reasonable size, to ``EXACT_DIGITS`` digits."""
    if exponent.number == Fraction(1, 2):
        return _sqrt(base)
    if base.number in (0, 1):
        return base
    with localcontext() as context:
        context.prec = EXACT_DIGITS
        size = _decimal(base.number).ln() * _decimal(exponent.number)
        if abs(size) > LIMIT_EXPONENT * 2:  # about 870 digits
            raise _too_large()
        return _checked(Fraction(size.exp()), is_exact=False)


def _sqrt(value: Value) -> Value:
    number = value.number
    if number < 0:
        raise ToolError(f"sqrt({_short(number)}): a negative number has no real square root")
    top, bottom = math.isqrt(number.numerator), math.isqrt(number.denominator)
    if Fraction(top * top, bottom * bottom) == number:
        return Value(Fraction(top, bottom), value.is_exact)
    with localcontext() as context:
        context.prec = EXACT_DIGITS
        return _checked(Fraction(_decimal(number).sqrt()), is_exact=False)


def _arguments(nodes: list[ast.expr], source: str, depth: int) -> list[Value]:
    if len(nodes) == 1 and isinstance(nodes[0], (ast.List, ast.Tuple)):
        nodes = nodes[0].elts
    return [_value(node, source, depth) for node in nodes]


def _call(name: str, values: list[Value]) -> Value:
    function = _FUNCTIONS.get(name)
    if function is None:
        raise ToolError(f"there is no function {name!r}: there are {', '.join(sorted(_FUNCTIONS))}")
    if not values:
        raise ToolError(f"{name}() needs at least one number")
    return function(values)


def _one(name: str, function: Callable[[Value], Value]) -> Callable[[list[Value]], Value]:
    def call(values: list[Value]) -> Value:
        if len(values) != 1:
            raise ToolError(f"{name} takes one number, got {len(values)}")
        return function(values[0])

    return call


def _many(function: Callable[[list[Fraction]], Fraction]) -> Callable[[list[Value]], Value]:
    return lambda values: _checked(function([v.number for v in values]), all(v.is_exact for v in values))


def _round(values: list[Value]) -> Value:
    if len(values) > 2 or (len(values) == 2 and values[1].number.denominator != 1):
        raise ToolError("round takes a number and a whole number of digits: round(2.345, 2)")
    digits = int(values[1].number) if len(values) == 2 else 0
    if abs(digits) > LIMIT_EXPONENT:
        raise ToolError(f"round to {digits} digits: at most {LIMIT_EXPONENT:,}")
    scale = Fraction(10) ** digits
    scaled = abs(values[0].number) * scale
    rounded = math.floor(scaled + Fraction(1, 2))
    sign = -1 if values[0].number < 0 else 1
    return _checked(sign * rounded / scale)  # exact by intention: this is what was asked for


def _percent(values: list[Value]) -> Value:
    if len(values) != 2:
        raise ToolError("percent takes two numbers: percent(15, 80) is 15% of 80")
    rate, whole = values
    return _checked(rate.number * whole.number / 100, rate.is_exact and whole.is_exact)


def _checked(number: Fraction, is_exact: bool = True) -> Value:
    """``number``, rounded to ``EXACT_DIGITS`` digits where it is a fraction too long to go on with."""
    top, bottom = number.numerator.bit_length(), number.denominator.bit_length()
    if max(top, bottom) <= LIMIT_BITS:
        return Value(number, is_exact)
    if bottom == 1 or abs(top - bottom) > LIMIT_BITS:
        raise _too_large()
    with localcontext() as context:
        context.prec = EXACT_DIGITS
        return Value(Fraction(_decimal(number)), is_exact=False)


def _too_large() -> ToolError:
    return ToolError(f"a number has too many digits, before or after the point: at most about {_DIGITS:,}")


def _decimal(number: Fraction) -> Decimal:
    return Decimal(number.numerator) / Decimal(number.denominator)


def _short(number: Fraction) -> str:
    text = show(Value(number))[0]
    return text if len(text) <= 20 else f"{text[:17]}..."


def _part(node: ast.AST, source: str) -> str:
    return repr(ast.get_source_segment(source, node) or "it")


def _advice(node: ast.expr) -> str:
    match node:
        case ast.Name():
            return f"use numbers, and the functions {', '.join(sorted(_FUNCTIONS))}"
        case ast.Tuple():
            return "calculate one expression at a time, and write numbers without thousands separators"
        case ast.Call():
            return "call functions by name with numbers only"
        case _:
            return "use numbers, + - * / // % ** and parentheses"


_DIGITS: Final = int(LIMIT_BITS * math.log10(2))
_OPERATORS: Final[dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction | int]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_FUNCTIONS: Final[dict[str, Callable[[list[Value]], Value]]] = {
    "abs": _one("abs", lambda v: Value(abs(v.number), v.is_exact)),
    "avg": _many(lambda numbers: sum(numbers, Fraction(0)) / len(numbers)),
    "max": _many(max),
    "min": _many(min),
    "percent": _percent,
    "round": _round,
    "sqrt": _one("sqrt", _sqrt),
    "sum": _many(lambda numbers: sum(numbers, Fraction(0))),
}
