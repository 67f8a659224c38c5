"""``recall``: an agent whose conversation was shortened looks at an earlier result again."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final

import msgspec

from collegium.domain.chat import Json
from collegium.domain.conversation import Turn
from collegium.domain.errors import ToolError
from collegium.domain.tool import ToolDefinition, ToolResult
from collegium.tools.context import ToolContext
from collegium.tools.definition import tool
from collegium.tools.outcome import Reconciled, error_result

NAME: Final = "recall"
_Count = Annotated[int, msgspec.Meta(ge=0)]


@tool(effect="read", name=NAME)
def _recall(step: _Count, call: _Count = 0, offset: _Count = 0) -> None:
    """Show the result of an earlier tool call of yours again, whole or from a place on.

    Args:
        step: The number of the step, as the note on left-out steps gives it.
        call: The number of the call within its step; 0 is the first.
        offset: The character of the result to start at.
    """


DEFINITION: Final = _recall.definition
"""What models are told of it."""


class Recall:
    """The tool over one conversation; it reads nothing but the recorded steps.

    Args:
        turns: Gives the steps so far.
        limit_bytes: Gives how much of a result the model may be shown at once.
    """

    def __init__(self, turns: Callable[[], Sequence[Turn]], limit_bytes: Callable[[], int]) -> None:
        self._turns = turns
        self._limit_bytes = limit_bytes

    @property
    def definition(self) -> ToolDefinition:
        """What is known of the tool."""
        return DEFINITION

    def bind(self, arguments: Json) -> dict[str, Any]:
        """The checked arguments. Raises ``ToolError`` with a text for the model."""
        return _recall.bind(arguments)

    async def run(self, bound: dict[str, Any], context: ToolContext) -> ToolResult:
        """The result, or the part of it from ``offset`` on that the model may be shown at once."""
        try:
            return self._part(bound["step"], bound.get("call", 0), bound.get("offset", 0))
        except ToolError as error:
            return error_result(error, tool=NAME)

    async def reconcile(self, key: str, context: ToolContext) -> Reconciled:
        """Nothing to ask: it changes nothing."""
        return Reconciled(state="unknown", detail="recall changes nothing")

    def _part(self, step: int, call: int, offset: int) -> ToolResult:
        turns = self._turns()
        # The first step is another number than 1 where somebody else began; the last one is the one that asks.
        first = turns[0].proposed.step
        if not first <= step < turns[-1].proposed.step:
            raise ToolError(f"there is no earlier step {step}: there are {first} to {turns[-1].proposed.step - 1}")
        turn = turns[bisect_left(turns, step, key=lambda t: t.proposed.step)]
        finished = turn.finished.get(call)
        if finished is None:
            numbers = ", ".join(str(n) for n in sorted(turn.finished)) or "none"
            raise ToolError(f"step {step} has no result of a call {call}; it has {numbers}")
        text = finished.result.text
        if offset and offset >= len(text):
            raise ToolError(f"the result has {len(text):,} characters: offset={offset} lies behind its end")
        room = max(self._limit_bytes() - 200, 200)
        shown = text[offset : offset + room].encode()[:room].decode("utf-8", "ignore")
        end = offset + len(shown)
        more = f"; go on with offset={end}" if end < len(text) else ", the end"
        head = f"{finished.tool}, step {step}, call {call}, characters {offset} to {end} of {len(text)}{more}:"
        return ToolResult(text=f"{head}\n{shown}")
