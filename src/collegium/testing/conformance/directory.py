"""What every ``Directory`` does. Time stands still unless a test advances it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime

import pytest

from collegium.domain.worker import AgentCard, WorkerCard
from collegium.ports import Clock, Directory
from collegium.testing.clock import FakeClock

_AT = datetime(2026, 1, 1, 12, 30, 15, 250_000, tzinfo=UTC)


def card(worker: str, *, load: int = 0) -> WorkerCard:
    """A card with everything on it."""
    agent = AgentCard(
        name="Zoë \u20ac",
        version="abc123",
        capabilities=("research", "write"),
        condition="quarantined",
        load=2,
        max_concurrent=4,
        attempts=9,
        failures=3,
        seconds=1.25,
        rating=0.75,
    )
    return WorkerCard(
        worker=worker,
        host="host.example",
        pid=4711,
        version="1.2.3",
        started_at=_AT,
        at=_AT,
        state="draining",
        capabilities=("research",),
        models=("small",),
        load=load,
        concurrency=64,
        lag_s=0.125,
        agents=(agent,),
    )


@pytest.mark.asyncio
class DirectoryConformance(ABC):
    """Subclass it as ``Test...`` and implement ``open``."""

    @abstractmethod
    def open(self, clock: Clock) -> AbstractAsyncContextManager[Directory]:
        """A directory without cards, closed at exit."""

    @abstractmethod
    def open_pair(self, clock: Clock) -> AbstractAsyncContextManager[tuple[Directory, Directory]]:
        """The same directory twice, as two processes would have it."""

    async def test_cards_are_shown_as_they_were_posted_by_worker(self) -> None:
        async with self.open(FakeClock()) as directory:
            assert await directory.cards() == ()
            for worker in ("wrk_b", "wrk_a-2", "wrk_c", "wrk_a"):
                await directory.post(card(worker), ttl_s=10)
            assert await directory.cards() == tuple(card(w) for w in ("wrk_a", "wrk_a-2", "wrk_b", "wrk_c"))

    async def test_the_last_card_of_a_worker_counts(self) -> None:
        clock = FakeClock()
        async with self.open(clock) as directory:
            await directory.post(card("wrk_1", load=1), ttl_s=10)
            await clock.advance(9)
            await directory.post(card("wrk_1", load=2), ttl_s=10)
            await clock.advance(9)
            assert await directory.cards() == (card("wrk_1", load=2),)
            await directory.post(card("wrk_1", load=3), ttl_s=0.5)
            await clock.advance(0.5)
            assert await directory.cards() == ()

    async def test_old_cards_do_not_count(self) -> None:
        clock = FakeClock()
        async with self.open(clock) as directory:
            await directory.post(card("wrk_1"), ttl_s=10)
            await directory.post(card("wrk_2"), ttl_s=20)
            await clock.advance(10)
            assert await directory.cards() == (card("wrk_2"),)
            await clock.advance(7 * 86_400)
            assert await directory.cards() == ()
            await directory.post(card("wrk_1", load=1), ttl_s=10)
            assert await directory.cards() == (card("wrk_1", load=1),)

    async def test_who_left_is_not_shown(self) -> None:
        async with self.open(FakeClock()) as directory:
            await directory.post(card("wrk_1"), ttl_s=10)
            await directory.post(card("wrk_2"), ttl_s=10)
            await directory.remove("wrk_1")
            await directory.remove("wrk_1")
            await directory.remove("wrk_none")
            assert await directory.cards() == (card("wrk_2"),)

    async def test_processes_see_each_other(self) -> None:
        async with self.open_pair(FakeClock()) as (one, two):
            await one.post(card("wrk_1"), ttl_s=10)
            await two.post(card("wrk_2"), ttl_s=10)
            assert await one.cards() == await two.cards() == (card("wrk_1"), card("wrk_2"))
            await two.remove("wrk_1")
            assert await one.cards() == (card("wrk_2"),)
