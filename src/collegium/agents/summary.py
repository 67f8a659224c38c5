"""Steps that a model is no longer shown, in a few lines: what was called, what it gave, how often."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence

from collegium.domain.body import ToolFinished
from collegium.domain.chat import ToolCall
from collegium.domain.conversation import Turn

_SHOWN_CHARS = 100
_SAID_CHARS = 240


class Counted:
    """How often which tool was called in the first steps; moves to and fro instead of counting all of them again."""

    def __init__(self) -> None:
        self._calls: Counter[str] = Counter()
        self._failed: Counter[str] = Counter()
        self._at = 0

    def upto(self, index: int, turns: Sequence[Turn]) -> str:
        """``search 12 times (1 failed), calculate once`` for ``turns[:index]``."""
        for turn in turns[self._at : index]:
            self._count(turn.finished.values(), 1)
        for turn in turns[index : self._at]:
            self._count(turn.finished.values(), -1)
        self._at = index
        return ", ".join(
            f"{name} {'once' if n == 1 else f'{n} times'}{f' ({bad} failed)' if (bad := self._failed[name]) else ''}"
            for name, n in sorted(self._calls.items())
            if n
        )

    def _count(self, calls: Iterable[ToolFinished], one: int) -> None:
        for call in calls:
            self._calls[call.tool] += one
            if not call.result.is_ok:
                self._failed[call.tool] += one


def lines_of(turn: Turn, *, at_least_chars: int = 0) -> list[str]:
    """A step in a few lines: what the agent said, and each call with its size and the beginning of its result."""
    reply, step = turn.proposed.reply, turn.proposed.step
    shown_chars = max(_SHOWN_CHARS, at_least_chars)
    lines = [f"Step {step}, you said: {short(reply.text, max(_SAID_CHARS, at_least_chars))}"] if reply.text else []
    for index, call in enumerate(reply.tool_calls):
        place = f"Step {step}" if len(reply.tool_calls) == 1 else f"Step {step}, call {index}"
        lines.append(f"{place}: {_called(call)} {_gave(turn.finished.get(index), shown_chars)}")
    return lines


def _called(call: ToolCall) -> str:
    return f"{call.name}({short(json.dumps(call.arguments, ensure_ascii=False, sort_keys=True), _SHOWN_CHARS)})"


def _gave(finished: ToolFinished | None, shown_chars: int) -> str:
    if finished is None:
        return "was not carried out"
    text = finished.result.text
    shown = json.dumps(short(text, shown_chars), ensure_ascii=False)
    return f"gave {len(text):,} characters: {shown}" if finished.result.is_ok else f"failed: {shown}"


def short(text: str, limit_chars: int) -> str:
    """``text`` on one line, its beginning only where it is long."""
    line = " ".join(text[: 4 * limit_chars].split())
    return line if len(line) <= limit_chars and len(text) <= 4 * limit_chars else f"{line[:limit_chars]}..."
