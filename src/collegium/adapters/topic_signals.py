"""Wakes those who wait for topics, without losing what happened between their last look and their waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from collegium.ports import Clock

_MAX_TOPICS = 10_000


class TopicSignals:
    """Counts what happened on each topic and what was last looked at; for one event loop."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._happened: dict[str, int] = {}
        self._looked: dict[str, int] = {}
        self._waiters: dict[str, set[asyncio.Future[None]]] = {}

    @property
    def topics(self) -> frozenset[str]:
        """The topics that somebody waits for."""
        return frozenset(self._waiters)

    def happened(self, topic: str) -> None:
        """Something on ``topic`` may be claimable or readable now."""
        self._happened[topic] = self._happened.get(topic, 0) + 1
        self.stir(topic)
        if len(self._happened) + len(self._looked) > _MAX_TOPICS:
            self._forget()

    def stir(self, topic: str) -> None:
        """Makes those who wait for ``topic`` compute anew how long to wait."""
        for waiter in self._waiters.get(topic, ()):
            _wake(waiter)

    def looked(self, topics: Sequence[str]) -> None:
        """Somebody looks at ``topics`` now; what happens from here on is news."""
        for topic in topics:
            self._looked[topic] = self._happened.get(topic, 0)

    async def news(self, topics: Sequence[str], timeout_s: float, *, due_in_s: Callable[[], float]) -> bool:
        """True as soon as something happens on ``topics`` that nobody has looked at, False after ``timeout_s``.

        Topics that nobody has ever looked at are news, once. ``due_in_s()`` says how long nothing can happen by itself:
        it is asked at the beginning and whenever the topics are stirred or that time is over.
        """
        deadline_s = self._clock.monotonic() + timeout_s
        rest_s = min(timeout_s, due_in_s())
        if any(self._looked.get(topic, -1) < self._happened.get(topic, 0) for topic in topics):
            self.looked(topics)
            return True
        before = [self._happened.get(topic, 0) for topic in topics]
        while rest_s > 0:
            await self._stirred(topics, rest_s)
            rest_s = min(deadline_s - self._clock.monotonic(), due_in_s())
            if [self._happened.get(topic, 0) for topic in topics] != before:
                self.looked(topics)
                return True
        return False

    async def _stirred(self, topics: Sequence[str], timeout_s: float) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        for topic in topics:
            self._waiters.setdefault(topic, set()).add(waiter)
        asleep = asyncio.ensure_future(self._clock.sleep(timeout_s))
        asleep.add_done_callback(lambda _: _wake(waiter))
        try:
            await waiter
        finally:
            asleep.cancel()
            for topic in topics:
                self._waiters[topic].discard(waiter)
                if not self._waiters[topic]:
                    del self._waiters[topic]

    def _forget(self) -> None:
        """Drops the counters of topics that nobody waits for: their next waiter is told to look once more."""
        self._happened = {topic: n for topic, n in self._happened.items() if topic in self._waiters}
        self._looked = {topic: n for topic, n in self._looked.items() if topic in self._waiters}


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
