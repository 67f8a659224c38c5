"""Streams of events: read as they come, taken up again where they broke off, each event once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Final, NamedTuple

import msgspec

from collegium.client.connection import FIRST_S, MOST_S, Connection
from collegium.client.wire import SentEvent
from collegium.domain.errors import StoreUnavailable
from collegium.domain.event import Event

PATIENCE: Final = 60
"""So many times in a row a stream is taken up again without one new event."""
_log = logging.getLogger("collegium.client")


class Sent(NamedTuple):
    """One message of a stream."""

    name: str
    id: str
    data: str


async def follow(connection: Connection, run: str, *, after: int) -> AsyncIterator[Event]:
    """Events of a run with ``seq > after`` as they happen, until it has ended; none is missed and none comes twice.

    Raises ``StoreUnavailable`` when the server stays away, and what it answers otherwise.
    """
    failures = 0
    while failures < PATIENCE:
        try:
            headers = {"accept": "text/event-stream", "last-event-id": str(after)}
            async with connection.stream(f"/v1/runs/{run}/events", headers=headers) as reply:
                async for sent in _messages(reply.aiter_lines()):
                    if sent.name == "end":
                        return
                    if not sent.id.isdigit() or int(sent.id) <= after:
                        continue
                    event = msgspec.json.decode(sent.data, type=SentEvent).event()
                    yield event
                    after, failures = event.seq, 0
        except StoreUnavailable as error:
            _log.info("the stream of %s broke off behind event %d: %s", run, after, error)
        failures += 1
        await asyncio.sleep(min(MOST_S, FIRST_S * 2**failures))
    raise StoreUnavailable(f"{connection.url} was away for too long: the run goes on without being watched", run=run)


async def _messages(lines: AsyncIterator[str]) -> AsyncIterator[Sent]:
    """The messages in the lines of a stream.

    Source: HTML Living Standard, section 9.2.6, "Interpreting an event stream".
    """
    name, id_, data = "", "", list[str]()
    async for line in lines:
        if not line:
            if data:
                yield Sent(name or "message", id_, "\n".join(data))
            name, data = "", []
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            data.append(value)
        elif field == "event":
            name = value
        elif field == "id" and "\0" not in value:
            id_ = value
