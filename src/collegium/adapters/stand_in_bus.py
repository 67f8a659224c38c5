"""A bus that goes on without its server: work is passed on inside the process while that is away."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime
from typing import TypeVar

from collegium.adapters.memory.bus import MemoryBus
from collegium.domain.errors import StoreError
from collegium.domain.message import Claim, Letter, Message, is_work
from collegium.ports import Bus

T = TypeVar("T")
_log = logging.getLogger("collegium.bus")


class StandInBus:
    """Implements ``Bus`` over ``server``, and over ``local`` for work topics as long as the server does not answer.

    Work topics hold nothing that the runs' heads do not say as well: every worker finds what is due by the heads and
    publishes it anew. With the server away it does so for itself, and claims it from itself. Two workers may do that
    with the same task; the journal lets one of them start it. All other topics need the server.
    """

    def __init__(self, server: Bus, local: MemoryBus) -> None:
        self._server = server
        self._local = local
        self._claimed: set[str] = set()
        self._is_away = False

    async def publish(self, *messages: Message, delay_s: float = 0.0) -> int:
        """How many were new."""
        try:
            return self._answered(await self._server.publish(*messages, delay_s=delay_s))
        except StoreError as error:
            if not all(is_work(m.topic) for m in messages):
                raise
            self._tell(error)
            return await self._local.publish(*messages, delay_s=delay_s)

    async def claim(self, topics: Sequence[str], group: str, limit: int = 1) -> tuple[Claim, ...]:
        """Up to ``limit`` messages; first those that were passed on inside this process."""
        claims = await self._local.claim(topics, group, limit) if await self._local.depth(topics) else ()
        if claims:
            self._claimed.update(claim.token for claim in claims)
            return claims
        try:
            return self._answered(await self._server.claim(topics, group, limit))
        except StoreError as error:
            if not all(is_work(topic) for topic in topics):
                raise
            self._tell(error)
            return ()

    async def settle(self, claim: Claim, *, requeue_after_s: float | None = None, dead: str | None = None) -> None:
        """Settles the claim where it was made. Work that cannot be settled comes back, and is known by then."""
        if claim.token in self._claimed:
            self._claimed.discard(claim.token)
            await self._local.settle(claim, requeue_after_s=requeue_after_s, dead=dead)
            return
        try:
            await self._server.settle(claim, requeue_after_s=requeue_after_s, dead=dead)
            self._answered(None)
        except StoreError as error:
            if not is_work(claim.message.topic):
                raise
            self._tell(error)

    async def read(
        self, topic: str, after: int = 0, limit: int = 1_000, *, since: datetime | None = None
    ) -> tuple[Message, ...]:
        """Messages of a topic, from the server."""
        return await self._server.read(topic, after, limit, since=since)

    async def letters(self, topic: str, after: int = 0, limit: int = 100) -> tuple[Letter, ...]:
        """Dead letters of a topic, from the server."""
        return await self._server.letters(topic, after, limit)

    async def revive(self, letter: Letter) -> bool:
        """Gives a dead letter back."""
        return await self._server.revive(letter)

    async def topics(self, after: str = "", limit: int = 1_000) -> tuple[str, ...]:
        """Names of topics, from the server."""
        return await self._server.topics(after, limit)

    async def depth(self, topics: Sequence[str]) -> int:
        """How many messages wait unclaimed."""
        here = await self._local.depth(topics)
        try:
            return here + self._answered(await self._server.depth(topics))
        except StoreError as error:
            if not here:
                raise
            self._tell(error)
            return here

    async def wait(self, topics: Sequence[str], timeout_s: float) -> bool:
        """Until something may be claimable or readable, or the time is over."""
        if self._is_away or await self._local.depth(topics):
            return await self._local.wait(topics, timeout_s)
        try:
            return await self._server.wait(topics, timeout_s)
        except StoreError as error:
            self._tell(error)
            return await self._local.wait(topics, timeout_s)

    def _answered(self, answer: T) -> T:
        if self._is_away:
            self._is_away = False
            _log.warning("the bus is back")
        return answer

    def _tell(self, error: StoreError) -> None:
        if not self._is_away:
            self._is_away = True
            _log.warning("the bus is away, work is found by the heads of the runs meanwhile: %s", error)
