"""Consuming topics: claim, handle, settle; try again later what failed, and put aside what fails for good."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from collegium.bus.requests import answer
from collegium.domain.chat import Json
from collegium.domain.errors import CollegiumError, StoreError, TopicFull
from collegium.domain.message import Claim, Message
from collegium.ports import Bus, Clock

WAIT_S = 5.0
AWAY_S = 1.0
_log = logging.getLogger("collegium.consumer")
Handle = Callable[[Message], Awaitable[Json | None]]
"""Deals with a message; what it returns is the answer to one that asks for an answer (None: an empty one)."""


class Consumer:
    """Deals with the messages of some topics, in the name of a group.

    A message is handled at least once: again when this process dies over it, and when ``handle`` takes longer than the
    bus hides a claim. What raises an error that trying again may help against is given back, each time for twice as
    long; what raises any other error of collegium, or fails ``max_failures`` times, becomes a dead letter.

    Args:
        bus: Where the messages are.
        topics: What is claimed from.
        group: Processes of one group share the messages out; every group gets all of them.
        handle: Deals with one message.
        clock: Tells how long to wait.
        concurrency: How many messages are dealt with at once, and at most held here.
        max_failures: With so many failures a message becomes a dead letter.
        first_delay_s: How long a message waits after its first failure.
        max_delay_s: How long it waits at most.
    """

    def __init__(
        self,
        bus: Bus,
        topics: Sequence[str],
        group: str,
        handle: Handle,
        *,
        clock: Clock,
        concurrency: int = 1,
        max_failures: int = 5,
        first_delay_s: float = 1.0,
        max_delay_s: float = 60.0,
    ) -> None:
        self._bus = bus
        self._topics = tuple(topics)
        self._group = group
        self._handle = handle
        self._clock = clock
        self._concurrency = concurrency
        self._max_failures = max_failures
        self._delays_s = (first_delay_s, max_delay_s)
        self._working: set[asyncio.Task[None]] = set()
        self._is_away = False

    async def run(self) -> None:
        """Consumes until it is cancelled; what is being handled then is given back at once."""
        try:
            while True:
                try:
                    await self._round()
                    self._is_away = False
                except StoreError as error:
                    self._note_away(error)
                    await self._clock.sleep(AWAY_S)
        finally:
            for task in self._working:
                task.cancel()
            await asyncio.gather(*self._working, return_exceptions=True)

    async def _round(self) -> None:
        room = self._concurrency - len(self._working)
        claims = await self._bus.claim(self._topics, self._group, room) if room else ()
        for claim in claims:
            task = asyncio.create_task(self._see_to(claim))
            self._working.add(task)
            task.add_done_callback(self._working.discard)
        if len(self._working) >= self._concurrency:
            await asyncio.wait(self._working, return_when=asyncio.FIRST_COMPLETED)
        elif not claims:
            await self._bus.wait(self._topics, WAIT_S)

    async def _see_to(self, claim: Claim) -> None:
        """Deals with one message; where the bus is away then, the message comes back when its claim ends."""
        try:
            await self._deal_with(claim)
        except StoreError as error:
            self._note_away(error)

    async def _deal_with(self, claim: Claim) -> None:
        try:
            result = await self._handle(claim.message)
        except asyncio.CancelledError:
            await self._bus.settle(claim, requeue_after_s=0)
            raise
        except Exception as error:  # noqa: BLE001  the consumer's edge: one message must not end all others
            await self._failed(claim, error)
            return
        try:
            await answer(self._bus, claim, result or {})
        except TopicFull:
            await self._bus.settle(claim, requeue_after_s=self._delays_s[1])

    async def _failed(self, claim: Claim, error: Exception) -> None:
        message = claim.message
        is_hopeless = isinstance(error, CollegiumError) and not error.retryable
        if is_hopeless or message.deliveries >= self._max_failures:
            _log.warning("message %s of %s is a dead letter: %r", message.id, message.topic, error)
            times = "once" if message.deliveries == 1 else f"{message.deliveries} times"
            await self._bus.settle(claim, dead=f"tried {times}, at last: {type(error).__name__}: {error}"[:2_000])
            return
        first_s, max_s = self._delays_s
        delay_s = min(max_s, first_s * 2.0 ** min(message.deliveries - 1, 60))
        _log.info("message %s of %s failed and is tried again in %g s: %r", message.id, message.topic, delay_s, error)
        await self._bus.settle(claim, requeue_after_s=delay_s)

    def _note_away(self, error: StoreError) -> None:
        if not self._is_away:
            _log.warning("the bus is away, it is tried again every %g s: %s", AWAY_S, error)
        self._is_away = True
