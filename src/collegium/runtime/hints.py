"""Hints: which runs have moved, so that whoever shows them looks soon. A hint that is lost costs a second, no more."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from typing import Final

from collegium.bus.feed import follow
from collegium.domain.errors import CollegiumError
from collegium.domain.message import Message
from collegium.ports import Bus, Clock
from collegium.runtime.wishes import NOBODY, Wishes

TOPIC: Final = "views.hints"
GATHER_S: Final = 0.05
KEEP: Final = timedelta(seconds=30)
MOST: Final = 200
"""So many runs are named in one message; of those beyond them nothing is said."""
AWAY_S: Final = 5.0
Listener = Callable[[str, int], None]
"""Told a run, and the number of its last event; 0 where that is not known."""
_log = logging.getLogger("collegium.hints")


class Hints:
    """Gathers which runs have moved and tells of all of them at once, at most every ``GATHER_S``.

    Nobody is told anything, and nothing is done, where nobody in this process listens and nothing is shared.

    Args:
        clock: By which it gathers.
    """

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._moved: dict[str, int] = {}
        self._listeners: set[Listener] = set()
        self._bus: Bus | None = None
        self._wishes: Wishes | None = None
        self._name = ""
        self._count = 0
        self._telling: asyncio.Task[None] | None = None
        self._quiet_until_s = 0.0

    def share(self, bus: Bus, wishes: Wishes, name: str) -> None:
        """Tells other processes too, from now on, while somebody there looks on.

        Args:
            bus: What they have in common.
            wishes: Says whether anybody does.
            name: Of this process, unlike that of any other.
        """
        self._bus = bus
        self._wishes = wishes
        self._name = name

    def listen(self, listener: Listener) -> None:
        """Tells ``listener`` what moves in this process."""
        self._listeners.add(listener)

    def deaf(self, listener: Listener) -> None:
        """Tells ``listener`` nothing more; twice is harmless."""
        self._listeners.discard(listener)

    def moved(self, run: str, seq: int = 0) -> None:
        """Something was appended to ``run``; ``seq`` is the number of its last event, 0 where it is only ordered."""
        if not self._listeners and not self._is_wanted():
            return
        self._moved[run] = max(seq, self._moved.get(run, 0))
        if self._telling is None:
            self._telling = asyncio.create_task(self._tell())

    async def _tell(self) -> None:
        try:
            while self._moved:
                await self._clock.sleep(GATHER_S)
                moved, self._moved = self._moved, {}
                for run, seq in moved.items():
                    for listener in tuple(self._listeners):
                        listener(run, seq)
                if self._bus is not None and self._is_wanted() and self._clock.monotonic() >= self._quiet_until_s:
                    await self._publish(self._bus, moved)
        finally:
            self._telling = None

    def _is_wanted(self) -> bool:
        return self._wishes is not None and self._wishes.is_any()

    async def _publish(self, bus: Bus, moved: dict[str, int]) -> None:
        self._count += 1
        runs = moved if len(moved) <= MOST else dict(list(moved.items())[:MOST])
        message = Message(
            id=f"{self._name}/{self._count}",
            topic=TOPIC,
            tenant=NOBODY,
            body={"runs": runs},
            expires_at=self._clock.now() + KEEP,
        )
        try:
            await bus.publish(message)
        except (CollegiumError, OSError) as error:
            self._quiet_until_s = self._clock.monotonic() + AWAY_S
            _log.info("nobody is told which runs move, for %g s: %s", AWAY_S, error)


async def hear(bus: Bus, *, now: Callable[[], datetime]) -> AsyncIterator[dict[str, int]]:
    """What other processes tell of runs that move, from now on. Raises ``StoreError`` where the bus is away."""
    async for message in follow(bus, TOPIC, since=now()):
        runs = message.body.get("runs")
        if isinstance(runs, dict):
            yield {str(run): seq for run, seq in runs.items() if isinstance(seq, int)}
