"""Events: the envelope, the types, and which of them decide.

The stored format is for ever (``docs/explanation/journal.md``). The bodies stand in ``body.py`` and ``deed.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, Literal

import msgspec

from collegium.domain import body as b
from collegium.domain.body import Body
from collegium.domain.deed import LogNoted, LogOpened
from collegium.domain.errors import StoreCorrupt
from collegium.domain.upcast import newest_version, upcast

DECIDING: Final[Mapping[str, type[Body]]] = {
    "run.submitted": b.RunSubmitted,
    "run.planned": b.RunPlanned,
    "run.replanned": b.RunReplanned,
    "run.replanning": b.RunReplanning,
    "run.allotted": b.RunAllotted,
    "run.returned": b.RunReturned,
    "run.resumed": b.RunResumed,
    "run.said": b.RunSaid,
    "run.forked": b.RunForked,
    "run.cancel_requested": b.RunCancelRequested,
    "run.finished": b.RunFinished,
    "task.ready": b.TaskReady,
    "task.routed": b.TaskRouted,
    "task.started": b.TaskStarted,
    "task.asked": b.TaskAsked,
    "task.parked": b.TaskParked,
    "task.lapsed": b.TaskLapsed,
    "task.judged": b.TaskJudged,
    "task.settled": b.TaskSettled,
    "task.quarantined": b.TaskQuarantined,
    "tool.outcome_unknown": b.ToolOutcomeUnknown,
    "approval.requested": b.ApprovalRequested,
    "approval.answered": b.ApprovalAnswered,
    "account.drawn": b.AccountDrawn,
    "account.settled": b.AccountSettled,
    "log.opened": LogOpened,
}
RECORDING: Final[Mapping[str, type[Body]]] = {
    "step.proposed": b.StepProposed,
    "step.judged": b.StepJudged,
    "tool.intended": b.ToolIntended,
    "tool.finished": b.ToolFinished,
    "limit.reserved": b.LimitReserved,
    "limit.settled": b.LimitSettled,
    "limit.exceeded": b.LimitExceeded,
    "message.sent": b.MessageSent,
    "memory.written": b.MemoryWritten,
    "memory.superseded": b.MemorySuperseded,
    "context.compacted": b.ContextCompacted,
    "feedback.given": b.FeedbackGiven,
    "log.noted": LogNoted,
}
BODIES: Final[Mapping[str, type[Body]]] = {**DECIDING, **RECORDING}
VERSIONS: Final[Mapping[str, int]] = {name: newest_version(name) for name in BODIES}
"""The newest version of each type that this code writes and reads."""
_TYPES: Final[Mapping[type[Body], str]] = {body: name for name, body in BODIES.items()}
_DECODERS: Final[Mapping[str, msgspec.json.Decoder[Any]]] = {
    name: msgspec.json.Decoder(body) for name, body in BODIES.items()
}


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """An event before the store has given it ``seq`` and ``mac``."""

    id: str
    tenant: str
    at: datetime
    body: Body
    task: str | None = None
    attempt: int | None = None

    @property
    def type(self) -> str:
        """The event's type, e.g. ``task.ready``."""
        return type_of(self.body)

    @property
    def is_deciding(self) -> bool:
        """Whether ``decide`` reads it."""
        return self.type in DECIDING


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One fact of a run, as stored. Events refer to each other by ``id``, never by ``seq``.

    ``seq`` counts from 1 without gaps per run; ``mac`` (hex) chains the event to the one before it.
    """

    id: str
    tenant: str
    run: str
    seq: int
    type: str
    v: int
    at: datetime
    body: Body
    mac: str
    task: str | None = None
    attempt: int | None = None

    @property
    def is_deciding(self) -> bool:
        """Whether ``decide`` reads it."""
        return self.type in DECIDING


def type_of(body: Body) -> str:
    """The type of the event that has this body, e.g. ``task.ready``."""
    return _TYPES[type(body)]


def encode_body(body: Body) -> bytes:
    """The bytes that are stored and hashed, once and for ever."""
    return _ENCODER.encode(body)


def decode_body(type_: str, v: int, data: bytes) -> Body:
    """The body of a stored event. Raises ``StoreCorrupt`` for a type or version that this code does not know."""
    known = VERSIONS.get(type_)
    if known is None or v > known:
        raise StoreCorrupt(
            f"an event of type {type_!r} version {v} was written by a newer collegium; this one reads it up to "
            f"{known or 'no'} version: upgrade before working on this run",
            type=type_,
            v=v,
        )
    try:
        body: Body = _DECODERS[type_].decode(data if v == known else upcast(type_, v, data))
    except msgspec.MsgspecError as error:
        raise StoreCorrupt(f"the body of an event of type {type_!r} cannot be read: {error}", type=type_) from error
    return body


def fence_change(type_: str) -> Literal["create", "start", "close"] | None:
    """What an event of this type does to the fence row of its task, in the same transaction."""
    return _FENCE_CHANGES.get(type_)


_ENCODER = msgspec.json.Encoder(decimal_format="string", order=None)
_FENCE_CHANGES: Final[Mapping[str, Literal["create", "start", "close"]]] = {
    "task.ready": "create",
    "task.started": "start",
    "task.parked": "close",
    "task.lapsed": "close",
    "task.settled": "close",
    "task.quarantined": "close",
}
