"""A topic as it grows: what is there from a place or a time on, then what comes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta

from collegium.domain.message import Message
from collegium.ports import Bus

LOOK_S = 5.0
_NEXT = timedelta(microseconds=1)


async def follow(
    bus: Bus, topic: str, *, after: int = 0, since: datetime | None = None, page: int = 100, look_s: float = LOOK_S
) -> AsyncIterator[Message]:
    """Messages of ``topic`` in order, each once, as long as they are asked for.

    At most ``page`` messages are held here, however slow the reader is: the bus keeps the others, and drops the oldest
    as its rules say (``[bus] keep``, ``keep_s``). Whoever keeps ``seq`` of the last message goes on from there later.

    A bus that was emptied meanwhile may count anew from one. That is seen by the times of the messages, and what came
    since is delivered.

    Args:
        bus: Where the topic is.
        topic: Any topic that can be read; work topics cannot.
        after: Only messages with a greater ``seq``.
        since: Only messages published then or later.
        page: How many messages are read at once.
        look_s: How long to wait for news before looking whether the bus was emptied.

    Raises:
        StoreError: the bus is away.
    """
    last: datetime | None = None
    while True:
        messages = await bus.read(topic, after, page, since=since)
        for message in messages:
            after, last = message.seq, message.at or last
            yield message
        if messages or await bus.wait((topic,), look_s):
            continue
        if last is not None:
            newer = await bus.read(topic, limit=1, since=last + _NEXT)
            if newer and newer[0].seq <= after:
                after, since = newer[0].seq - 1, last + _NEXT
