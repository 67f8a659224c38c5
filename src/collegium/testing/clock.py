"""A clock that stands still until it is told to go on."""

from __future__ import annotations

import asyncio
import heapq
from datetime import UTC, datetime, timedelta

_SETTLE_TURNS = 20


class FakeClock:
    """Implements ``Clock``: the time of day and the monotonic time advance together, by ``advance`` alone.

    Args:
        start: The time of day at the beginning.
    """

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._start = start
        self._elapsed_s = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._count = 0

    def now(self) -> datetime:
        """The time of day, UTC-aware."""
        return self._start + timedelta(seconds=self._elapsed_s)

    def monotonic(self) -> float:
        """Seconds since the clock was made."""
        return self._elapsed_s

    async def sleep(self, seconds: float) -> None:
        """Returns once the clock was advanced by ``seconds``; zero or less only yields."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        self._count += 1
        waker = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._elapsed_s + seconds, self._count, waker))
        await waker

    async def advance(self, seconds: float) -> None:
        """Lets ``seconds`` pass: sleepers wake in the order of their times, each at its own time, and run on."""
        target_s = self._elapsed_s + seconds
        await self._settle()
        while self._sleepers and self._sleepers[0][0] <= target_s:
            due_s, _, waker = heapq.heappop(self._sleepers)
            if waker.done():
                continue  # the sleeper was cancelled
            self._elapsed_s = max(self._elapsed_s, due_s)
            waker.set_result(None)
            await self._settle()
        self._elapsed_s = max(self._elapsed_s, target_s)

    async def _settle(self) -> None:
        """Lets woken tasks run until they wait again, as far as a few turns of the loop take them."""
        for _ in range(_SETTLE_TURNS):
            await asyncio.sleep(0)
