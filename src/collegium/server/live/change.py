"""Changes: what is told of a list or a topic to those who look on."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from collegium.domain.head import RunStatus


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One thing of a topic as it is now; the latest change of a ``key`` takes the place of those before it.

    Attributes:
        topic: What was asked for: ``runs``, ``approvals``, ``workers``, ``runs.<id>.deltas``, or a topic of the bus.
        key: Which thing: the id of a run, a question, a worker, a message.
        value: How it is now: ``RunChange``, ``OpenQuestion``, ``WorkerCard``, ``Posting``, ``Token``; None where it is
            gone.
    """

    topic: str
    key: str
    value: Any = None


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
    body: dict[str, Any]


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of what a model is saying. The durable ``step.proposed`` of its step takes the place of all of them.

    Attributes:
        task: Whose step it is.
        attempt: Of which attempt.
        step: The number of the step.
        text: What came since the token before; with ``at`` 0 it begins anew.
        at: Characters of the step before this text: where one is missed, its text is not whole.
    """

    task: str
    attempt: int
    step: int
    at: int
    text: str
