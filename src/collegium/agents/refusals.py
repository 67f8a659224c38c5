"""What is said of calls that were not made: to the agent that proposed them, and to the person who is asked."""

from __future__ import annotations

from collegium.domain import body as b
from collegium.domain.tool import ToolResult
from collegium.tools import ledger as books


def done_before(entry: books.Entry) -> str:
    """Why a person is asked about a call that repeats ``entry``."""
    outcome = entry.result.text if entry.result is not None else "its result is not known"
    return f"It was already called with exactly these arguments, in step {entry.step} of task {entry.task!r}: {outcome}"


def refused(tool: str, answer: b.ApprovalAnswered) -> ToolResult:
    """What the agent is told when a person did not allow a call."""
    who = "nobody allowed" if answer.is_default else f"{answer.principal} did not allow"
    because = f": {answer.reason}" if answer.reason else ""
    return ToolResult(text=f"{tool} was not called, {who} it{because}. Go on without it.", is_ok=False)


def forestalled(tool: str, first: books.Entry) -> ToolResult:
    """What the agent is told when another process has intended the same call first."""
    text = (
        f"{tool} was not called: at the same moment it was called with exactly these arguments in step {first.step} of "
        f"task {first.task!r}. If it is to happen once more, call it again: a person will be asked"
    )
    return ToolResult(text=text, is_ok=False)
