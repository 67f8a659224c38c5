"""Patience: a Collegium that is opened however long its stores are away, and what can be told of it meanwhile."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any

from collegium.app import Collegium, Scope
from collegium.config import Settings
from collegium.domain.errors import CollegiumError
from collegium.domain.message import work_topic
from collegium.domain.worker import WorkerCard
from collegium.ports import Clock
from collegium.server.readiness import Away
from collegium.telemetry import COMMITS, FAILURES, LAG, LOAD, ROOM, STORE_UP, WAITING, WORKERS, Meter, Reading
from collegium.wiring import open_collegium

FIRST_S, MOST_S = 0.5, 10.0
"""A store that is away is tried again after ``FIRST_S``, then after twice as long each time."""
ANSWER_S = 2.0
REST_S = 5.0
_NOBODY = "run_none"
_log = logging.getLogger("collegium.process")


class Ending:
    """How a process is told to end: once in good order, a second time at once.

    Attributes:
        told: Set when it was told.
        before_exit: Called before it ends at once.
    """

    def __init__(self, exit_now: Callable[[int], object]) -> None:
        self._exit_now = exit_now
        self.told = asyncio.Event()
        self.before_exit: list[Callable[[], None]] = []

    def tell(self, code: int) -> None:
        """Tells it; the second time it ends at once with ``code``."""
        if self.told.is_set():
            self.exit(code)
        self.told.set()

    def exit(self, code: int) -> None:
        """Ends the process now: what it worked on is found by others as if it had crashed."""
        for one in self.before_exit:
            one()
        self._exit_now(code)


class Patience:
    """Opens a Collegium as soon as its stores answer.

    Args:
        settings: Where the stores are, and how long they may be away.
        clock: By which it waits.
        scope: See ``Collegium``.
        options: See ``open_collegium``.

    Attributes:
        app: The Collegium, once it is open.
        why: What it waits for until then.
    """

    def __init__(self, settings: Settings, *, clock: Clock, scope: Scope, **options: Any) -> None:
        self._settings = settings
        self._clock = clock
        self._scope = scope
        self._options = options
        self._stack = AsyncExitStack()
        self.meter = Meter()
        self.app: Collegium | None = None
        self.why = "it is being opened"

    async def open(self) -> Collegium:
        """The open Collegium. Raises the error of a store that was away for too long, or that will not do at all."""
        began_s, pause_s = self._clock.monotonic(), FIRST_S
        patience_s = self._settings.worker.start_patience_s
        while True:
            opening = open_collegium(self._settings, scope=self._scope, meter=self.meter, **self._options)
            try:
                self.app = await self._stack.enter_async_context(opening)
            except CollegiumError as error:
                waited_s = self._clock.monotonic() - began_s
                if not error.retryable or (patience_s is not None and waited_s >= patience_s):
                    raise
                self.why = error.message
            else:
                if pause_s > FIRST_S:
                    _log.warning("the stores answer again")
                return self.app
            wait_s = pause_s * random.uniform(0.75, 1.25)  # noqa: S311 many processes should not come at once
            _log.warning("the stores are away, they are tried again in %.1f s: %s", wait_s, self.why)
            await self._clock.sleep(wait_s)
            pause_s = min(MOST_S, 2 * pause_s)

    async def aclose(self) -> None:
        """Closes it; twice is harmless."""
        self.app = None
        await self._stack.aclose()

    async def store_away(self) -> Sequence[Away]:
        """Whether the store is away."""
        if self.app is None:
            return (Away(what="store", why=self.why),)
        await self.app.stores.journal.head(_NOBODY)
        return ()

    async def bus_away(self) -> Sequence[Away]:
        """Whether the bus is away."""
        if self.app is not None:
            await self.app.stores.bus.depth(_topics(self.app)[:1])
        return ()

    def own_readings(self) -> tuple[Reading, ...]:
        """What this process has counted."""
        readings = self.meter.readings()
        if self.app is None:
            return readings
        commits, failures = self.app.stores.commits()
        return (
            *readings,
            Reading(name=COMMITS.name, value=commits),
            Reading(name=FAILURES.name, value=failures),
        )

    async def shared_readings(self) -> tuple[Reading, ...]:
        """How the fleet is, as the bus and the workers' cards say: a few questions, however much is stored."""
        meter, app = Meter(), self.app

        async def look_at_journal() -> None:
            if app is not None:
                await app.stores.journal.head(_NOBODY)

        async def look_at_bus() -> None:
            if app is None:
                return
            for capability in app.roster.capabilities:
                meter.set(WAITING, capability, value=await app.stores.bus.depth((work_topic(capability),)))

        async def look_at_cards() -> None:
            if app is not None:
                _count(meter, await app.fleet.workers())

        looks = {"journal": look_at_journal, "bus": look_at_bus, "directory": look_at_cards}
        are_up = await asyncio.gather(*(_answers(look) for look in looks.values()))
        for part, is_up in zip(looks, are_up, strict=True):
            meter.set(STORE_UP, part, value=is_up and app is not None)
        return meter.readings()


def end_within_s(settings: Settings) -> float:
    """In how many seconds a worker process ends, whatever it does: its grace twice, and a rest."""
    return 2 * settings.worker.grace_s + REST_S


async def _answers(look: Callable[[], Awaitable[None]]) -> bool:
    try:
        async with asyncio.timeout(ANSWER_S):
            await look()
    except (CollegiumError, TimeoutError):
        return False
    return True


def _topics(app: Collegium) -> tuple[str, ...]:
    return tuple(work_topic(capability) for capability in app.roster.capabilities)


def _count(meter: Meter, cards: Sequence[WorkerCard]) -> None:
    states: Counter[str] = Counter(card.state for card in cards)
    for state in ("ready", "draining", *states):
        meter.set(WORKERS, state, value=states[state])
    meter.set(LOAD, value=sum(card.load for card in cards))
    meter.set(ROOM, value=sum(card.concurrency for card in cards if card.state == "ready"))
    meter.set(LAG, value=max((card.lag_s for card in cards), default=0.0))
