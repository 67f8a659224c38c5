"""Exact arithmetic for models, which are poor at it."""

from __future__ import annotations

from collegium.domain.tool import ToolResult
from collegium.tools.builtin.arithmetic import evaluate, show
from collegium.tools.definition import tool


@tool(effect="pure", capabilities=["operate", "write"])
async def calculate(expression: str) -> ToolResult:
    """Calculate an arithmetic expression exactly. Use this for every calculation instead of doing it in your head.

    Knows + - * / // % ** and parentheses; round(x, digits) (halves away from zero), min, max, sum, avg, abs,
    sqrt; percent as 15% of 80. Write numbers without thousands separators: 1234.50.

    Args:
        expression: For example: round(1250 * 1.19 - 15% of 80, 2)
    """
    value = evaluate(expression)
    text, is_exact = show(value)
    sign = "=" if is_exact else "≈"
    return ToolResult(text=f"{expression.strip()} {sign} {text}", data={"value": text, "is_exact": is_exact})
