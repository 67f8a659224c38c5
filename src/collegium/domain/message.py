"""Messages on the bus."""

from __future__ import annotations

from typing import Final

import msgspec

from collegium.domain.chat import Json

PRIORITIES: Final[dict[str, int]] = {"urgent": 0, "high": 1, "normal": 2, "low": 3}
"""Names of the priorities; a smaller number goes first."""


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """A message on a topic.

    ``id`` is chosen by the publisher: the same id among unsettled messages is published once.
    """

    id: str
    topic: str
    tenant: str
    body: Json
    priority: int = 2
    seq: int = 0
    """Place in the topic, given by the bus."""
    deliveries: int = 0
    """How often it has been claimed so far."""


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """A message that was claimed; ``token`` names this claim, so that a stale one settles nothing."""

    message: Message
    group: str
    token: str


def work_topic(capability: str) -> str:
    """The topic on which tasks of a capability wait for a worker."""
    return f"tasks.{capability}"
