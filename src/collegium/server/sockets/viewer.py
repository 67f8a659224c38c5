"""A viewer: what one socket looks at, and what it was not told of yet."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from typing import Final

from collegium.domain.errors import CollegiumError, LimitReached, UsageError
from collegium.server.access.live import LiveAccess
from collegium.server.live.change import Taker
from collegium.server.live.watch import Follower
from collegium.server.sockets.ops import MAX_TOPICS, refused, told

Send = Callable[[str], Awaitable[None]]
_EVENTS: Final = ".events"
_MOST_JOINED: Final = 100
"""So many changes go into one message."""


class Viewer:
    """The topics of one socket.

    Nothing is queued for it but the latest state of lists. In a run it has a place of its own: where it falls so far
    behind that the events are no longer at hand, it is told to ``resync`` from there, and nobody waits for it.

    Args:
        live: What it may look at.
    """

    def __init__(self, live: LiveAccess) -> None:
        self._live = live
        self._wake = asyncio.Event()
        self._taker = Taker(self._wake.set)
        self._seats: dict[str, ExitStack] = {}
        self._followers: dict[str, Follower] = {}
        self._ready: dict[str, None] = {}
        self._caught_up: set[str] = set()

    def __len__(self) -> int:
        """How many topics it looks at."""
        return len(self._seats)

    async def subscribe(self, topic: str, after: int) -> None:
        """Looks at ``topic`` too; again moves its place in a run. Raises ``CollegiumError``."""
        if topic not in self._seats and len(self._seats) >= MAX_TOPICS:
            raise LimitReached(f"a socket looks at {MAX_TOPICS} topics at most: unsubscribe from others first")
        if after < 0:
            raise UsageError(f"after={after} does not do: it is the number of an event, or 0")
        run = topic.removeprefix("runs.").removesuffix(_EVENTS) if topic.endswith(_EVENTS) else None
        seat = ExitStack()
        if run is None:
            joining = await self._live.join(topic, self._taker)
            self.unsubscribe(topic)
            seat.enter_context(joining)
        else:
            place = await self._live.place(run, after, lambda: self._note(topic))
            self.unsubscribe(topic)
            self._followers[topic] = seat.enter_context(place)
            self._note(topic)
        self._seats[topic] = seat

    def unsubscribe(self, topic: str) -> None:
        """Looks at it no more; twice is harmless."""
        seat = self._seats.pop(topic, None)
        self._followers.pop(topic, None)
        self._ready.pop(topic, None)
        self._caught_up.discard(topic)
        if seat is not None:
            seat.close()

    def close(self) -> None:
        """Looks at nothing any more."""
        for topic in tuple(self._seats):
            self.unsubscribe(topic)

    async def tell(self, send: Send) -> None:
        """Sends what is new, until it is cancelled; ``send`` returns when there is room for more."""
        while True:
            if not self._ready:
                await self._wake.wait()
            self._wake.clear()
            for topic in tuple(self._ready):
                await self._tell_run(topic, send)
            await self._tell_changes(send)

    async def _tell_run(self, topic: str, send: Send) -> None:
        """One message with the next events; whoever is not up to date yet stays ready."""
        follower = self._followers.get(topic)
        self._ready.pop(topic, None)
        if follower is None:
            return
        if topic in self._caught_up and not follower.watch.is_at_hand(follower.after):
            self.unsubscribe(topic)
            await send(told("resync", topic=topic, after=follower.after))
            return
        try:
            frames = await follower.take()
        except CollegiumError as error:
            self.unsubscribe(topic)
            await send(refused(error, topic=topic))
            return
        if self._followers.get(topic) is not follower:
            return  # it was moved or left meanwhile
        if not follower.is_up:
            self._ready[topic] = None
        else:
            self._caught_up.add(topic)
        is_done = follower.is_done
        if is_done:
            self.unsubscribe(topic)
        if frames:
            items = follower.watch.text(frames)
            await send(f'{{"type":"events","topic":"{topic}","after":{frames[-1].event.seq},"items":{items}}}')
        if is_done:
            await send(told("end", topic=topic, after=follower.after))

    async def _tell_changes(self, send: Send) -> None:
        changes = self._taker.take()
        for first in range(0, len(changes), _MOST_JOINED):
            texts = ",".join(one.text for one in changes[first : first + _MOST_JOINED])
            await send(f'{{"type":"changes","items":[{texts}]}}')

    def _note(self, topic: str) -> None:
        self._ready[topic] = None
        self._wake.set()
