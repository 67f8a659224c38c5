"""Changes: what is told of a list or a topic to those who look on."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

import msgspec

from collegium.domain.chat import Json
from collegium.domain.head import RunStatus

MOST: Final = 1_000
"""So many things that somebody was not told of yet are kept for them."""
_ENCODER: Final = msgspec.json.Encoder(enc_hook=str, decimal_format="number")


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One thing of a topic as it is now; the latest change of a ``key`` takes the place of those before it.

    Attributes:
        topic: What was asked for: ``runs``, ``approvals``, ``workers``, ``runs.<id>.deltas``, or a topic of the bus.
        key: Which thing: the id of a run, a question, a worker, a message; empty where ``is_resync``.
        value: How it is now: ``RunChange``, ``OpenQuestion``, ``WorkerCard``, ``Posting``, ``Token``; None where it is
            gone.
        is_resync: Some changes were left out, since they were not taken in time: read the list anew.
    """

    topic: str
    key: str = ""
    value: Any = None
    is_resync: bool = False


class RunChange(msgspec.Struct, frozen=True, kw_only=True):
    """Where a run stands: its status, and the number of its last event."""

    run_id: str
    status: RunStatus
    seq: int


class OpenQuestion(msgspec.Struct, frozen=True, kw_only=True):
    """A question that waits for a person's answer."""

    approval: str
    run_id: str
    kind: str
    question: str
    requested_at: datetime
    expires_at: datetime | None = None


class Posting(msgspec.Struct, frozen=True, kw_only=True):
    """A message on a topic of the bus; ``seq`` is its place there."""

    id: str
    seq: int
    at: datetime | None
    body: Json


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of what a model is saying. The durable ``step.proposed`` of the task takes the place of all of them.

    Attributes:
        task: Who asked the model.
        attempt: In which attempt.
        call: Which call of the model it is in this attempt, from 1.
        at: Characters of the reply before this text: whoever has another number of them has missed some.
        text: The piece.
    """

    task: str
    attempt: int
    call: int
    at: int
    text: str


class Told:
    """A change on its way to many: its JSON is made once."""

    __slots__ = ("_text", "change")

    def __init__(self, change: Change) -> None:
        self.change = change
        self._text: str | None = None

    @property
    def text(self) -> str:
        """The change as JSON."""
        if self._text is None:
            self._text = _ENCODER.encode(self.change).decode()
        return self._text


class Taker:
    """What one who looks on has not been told yet: of each thing the latest, and of all no more than ``MOST``.

    Args:
        notify: Called when there is something to take.
    """

    def __init__(self, notify: Callable[[], None]) -> None:
        self._notify = notify
        self._waiting: dict[tuple[str, str], Told] = {}
        self._lost: set[str] = set()

    def offer(self, told: Told) -> None:
        """Keeps it until it is taken, in place of what it follows."""
        place = (told.change.topic, told.change.key)
        before = self._waiting.get(place)
        self._waiting[place] = told if before is None else _joined(before, told)
        if len(self._waiting) > MOST:
            first = next(iter(self._waiting))
            del self._waiting[first]
            self._lost.add(first[0])
        self._notify()

    def drop(self, topic: str) -> None:
        """Forgets what waits of ``topic``."""
        self._lost.discard(topic)
        for place in [place for place in self._waiting if place[0] == topic]:
            del self._waiting[place]

    def take(self) -> list[Told]:
        """All that waits, the oldest first; where something was left out, that is told first."""
        taken = [Told(Change(topic=topic, is_resync=True)) for topic in sorted(self._lost)]
        taken += self._waiting.values()
        self._lost.clear()
        self._waiting.clear()
        return taken


def _joined(before: Told, told: Told) -> Told:
    """What is told instead of both: the latter, and of pieces of one text both together."""
    first, then = before.change.value, told.change.value
    if not isinstance(first, Token) or not isinstance(then, Token):
        return told
    if (first.call, first.attempt) != (then.call, then.attempt) or first.at + len(first.text) != then.at:
        return told
    whole = msgspec.structs.replace(first, text=first.text + then.text)
    return Told(msgspec.structs.replace(told.change, value=whole))
