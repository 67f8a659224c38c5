"""Colleagues, as the calls of an attempt reach them: questions that wait for an answer, and messages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NoReturn, Protocol

import msgspec

from collegium.domain import body as b
from collegium.domain.document import Chunk
from collegium.domain.message import board_topic, inbox_topic
from collegium.domain.tool import ToolResult
from collegium.tools.context import Board as Read


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What call ``call`` of a step asks a colleague."""

    call: int
    capability: str
    question: str


class Asks(Protocol):
    """The questions of one task to colleagues."""

    def answer(self, step: int, call: int) -> ToolResult | None:
        """What came of the question that this call asked; None while it is open, or was not asked yet."""
        ...

    async def ask(self, step: int, questions: Sequence[Question]) -> NoReturn:
        """Asks all of them that are not asked yet and closes the attempt, in one decision.

        Raises:
            ToolError: the first of them cannot be asked; nothing was. The text is for the agent.
            Asked: the task goes on when all of them have their answers.
        """
        ...


class Board(Read, Protocol):
    """What colleagues share within the run, and how a message gets there."""

    @property
    def agent(self) -> str:
        """Whose messages go out."""
        ...

    async def has_sent(self, step: int, call: int) -> bool:
        """Whether this call has sent its message already, though its result is not there.

        The two are one append, which only the beginning of a fork can cut in two.
        """
        ...

    async def publish(self, sent: b.MessageSent) -> None:
        """Puts a copy of a message that is in the journal on the bus, for whoever watches; never fails."""
        ...


async def message_sent(
    result: ToolResult, board: Board, *, id_: str, run: str, step: int, call: int
) -> b.MessageSent | None:
    """The message that a call of ``share`` with this result sends; None where it was refused, or sent it before."""
    if not result.is_ok or result.data is None or await board.has_sent(step, call):
        return None
    to = result.data["to"]
    return b.MessageSent(
        message=id_,
        topic=board_topic(run) if to is None else inbox_topic(str(to)),
        text=str(result.data["finding"]),
        agent=board.agent,
        step=step,
        call=call,
    )


def places(data: dict[str, Any] | None) -> Iterable[Chunk]:
    """The places in documents that a colleague's answer rests on; its words themselves bear nothing out."""
    for one in (data or {}).get("citations", ()):
        yield _chunk(one, one["quote"])
    for one in (data or {}).get("passages", ()):
        yield _chunk(one, one["text"])


def _chunk(place: dict[str, Any], text: str) -> Chunk:
    return Chunk(
        id=place["chunk_id"],
        document=place["document"],
        sha256="",
        start=place["start"],
        end=place["end"],
        text=text,
    )
