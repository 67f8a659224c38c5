"""Messages on the bus."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final

import msgspec

from collegium.domain.chat import Json
from collegium.domain.errors import UsageError

PRIORITIES: Final[dict[str, int]] = {"urgent": 0, "high": 1, "normal": 2, "low": 3}
"""Names of the priorities; a smaller number goes first."""
WORKERS: Final = "workers"
"""The group of all processes that claim tasks."""
_TOPIC = re.compile(r"[A-Za-z0-9_~][A-Za-z0-9_.~:@-]{0,199}\Z")


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """A message on a topic.

    ``id`` is chosen by the publisher: the same id among unsettled messages of the topic is published once.
    """

    id: str
    topic: str
    tenant: str
    body: Json
    priority: int = 2
    reply_to: str | None = None
    """Topic on which whoever asked waits for one answer; see ``bus.requests``."""
    expires_at: datetime | None = None
    """From then on nobody waits for it any more: it is not delivered, only read."""
    seq: int = 0
    """Place in the topic, given by the bus."""
    at: datetime | None = None
    """When it was published, given by the bus."""
    deliveries: int = 0
    """How often it has been claimed so far."""


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """A message that was claimed; ``token`` names this claim, so that a stale one settles nothing."""

    message: Message
    group: str
    token: str


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    """A dead letter: a message that a group could not deal with. It is kept until it is given back or grows too old."""

    message: Message
    group: str
    reason: str
    at: datetime


def check_topic(topic: str) -> str:
    """``topic``. Raises ``UsageError`` for a name that no topic can have."""
    if _TOPIC.match(topic) is None:
        raise UsageError(
            f"{topic[:80]!r} is no name of a topic: 1 to 200 letters, digits and any of _ . ~ : @ -", topic=topic[:200]
        )
    return topic


def work_topic(capability: str) -> str:
    """The topic on which tasks of a capability wait for a worker."""
    return f"tasks.{capability}"


def is_work(topic: str) -> bool:
    """Whether messages of ``topic`` are only claimed: they are made anew from the journals and never read again."""
    return topic.startswith("tasks.")


def board_topic(run: str) -> str:
    """The topic on which the agents of a run share what they find."""
    return f"runs.{run}.board"


def inbox_topic(agent: str) -> str:
    """The topic of messages to an agent."""
    return f"agents.{agent}.inbox"


def control_topic(worker: str) -> str:
    """The topic of orders to a worker process."""
    return f"control.{worker}"
