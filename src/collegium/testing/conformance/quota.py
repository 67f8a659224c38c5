"""What every ``Quota`` does. Time stands still unless a test advances it."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager

import pytest

from collegium.domain.rate import Rate, per_minute
from collegium.ports import Clock, Quota
from collegium.testing.clock import FakeClock

_TEN = Rate(per_s=2.0, burst=10.0)


@pytest.mark.asyncio
class QuotaConformance(ABC):
    """Subclass it as ``Test...`` and implement ``open``."""

    @abstractmethod
    def open(self, clock: Clock) -> AbstractAsyncContextManager[Quota]:
        """Quotas of which nothing is taken or held, closed at exit."""

    def open_pair(self, clock: Clock) -> AbstractAsyncContextManager[tuple[Quota, Quota]]:
        """The same quotas twice, as two processes would have them."""
        pytest.skip("one process only")

    async def test_a_burst_then_the_rate(self) -> None:
        clock = FakeClock()
        async with self.open(clock) as quota:
            for _ in range(10):
                assert await quota.take("a", _TEN) == 0.0
            assert await quota.take("a", _TEN) == pytest.approx(0.5, abs=1e-5)
            assert await quota.take("a", _TEN, 4) == pytest.approx(2.0, abs=1e-5)
            await clock.advance(0.5)
            assert await quota.take("a", _TEN) == 0.0
            assert await quota.take("a", _TEN) > 0.0

    async def test_it_says_what_is_left_and_takes_nothing(self) -> None:
        clock = FakeClock()
        async with self.open(clock) as quota:
            assert await quota.left("a", _TEN) == 10.0
            assert await quota.take("a", _TEN, 4) == 0.0
            for _ in range(2):
                assert await quota.left("a", _TEN) == pytest.approx(6.0, abs=1e-5)
            await clock.advance(1.0)
            assert await quota.left("a", _TEN) == pytest.approx(8.0, abs=1e-5)
            await quota.refund("a", _TEN, -20)
            assert await quota.left("a", _TEN) == pytest.approx(-12.0, abs=1e-5)

    async def test_buckets_are_apart(self) -> None:
        async with self.open(FakeClock()) as quota:
            assert await quota.take("a", _TEN, 10) == 0.0
            assert await quota.take("b", _TEN, 10) == 0.0
            assert await quota.take("a", _TEN) > 0.0

    async def test_what_it_says_to_wait_is_enough(self) -> None:
        clock = FakeClock()
        rate = Rate(per_s=7.3, burst=3.1)
        async with self.open(clock) as quota:
            for n in range(60):
                wait_s = await quota.take("a", rate, 0.3 + n % 5 / 3)
                if wait_s > 0.0:
                    await clock.advance(wait_s)
                    assert await quota.take("a", rate, 0.3 + n % 5 / 3) == 0.0

    async def test_it_fills_up_to_the_burst_and_no_further(self) -> None:
        clock = FakeClock()
        async with self.open(clock) as quota:
            assert await quota.take("a", _TEN, 10) == 0.0
            await clock.advance(3_600)
            assert await quota.take("a", _TEN, 10) == 0.0
            assert await quota.take("a", _TEN) > 0.0

    async def test_no_more_than_the_rate_goes_through(self) -> None:
        clock = FakeClock()
        async with self.open(clock) as quota:
            taken = 0
            for _ in range(600):
                taken += await quota.take("a", per_minute(60)) == 0.0
                await clock.advance(0.2)
            assert 60 + 118 <= taken <= 60 + 120

    async def test_more_than_a_burst_is_owed(self) -> None:
        clock = FakeClock()
        async with self.open(clock) as quota:
            assert await quota.take("a", _TEN, 1) == 0.0
            assert await quota.take("a", _TEN, 30) == pytest.approx(0.5, abs=1e-5)
            await clock.advance(0.5)
            assert await quota.take("a", _TEN, 30) == 0.0
            assert await quota.take("a", _TEN, 1) == pytest.approx(10.5, abs=1e-5)
            await clock.advance(10.5)
            assert await quota.take("a", _TEN, 1) == 0.0

    async def test_what_was_not_used_comes_back_up_to_the_burst(self) -> None:
        async with self.open(FakeClock()) as quota:
            assert await quota.take("a", _TEN, 8) == 0.0
            await quota.refund("a", _TEN, 5)
            assert await quota.take("a", _TEN, 7) == 0.0
            await quota.refund("a", _TEN, 100)
            assert await quota.take("a", _TEN, 10) == 0.0
            assert await quota.take("a", _TEN) > 0.0

    async def test_what_was_used_beyond_is_owed(self) -> None:
        clock = FakeClock()
        async with self.open(clock) as quota:
            assert await quota.take("a", _TEN, 10) == 0.0
            await quota.refund("a", _TEN, -10)
            assert await quota.take("a", _TEN, 2) == pytest.approx(6.0, abs=1e-5)
            await clock.advance(6)
            assert await quota.take("a", _TEN, 2) == 0.0

    async def test_a_lower_rate_counts_at_once(self) -> None:
        async with self.open(FakeClock()) as quota:
            assert await quota.take("a", _TEN, 1) == 0.0
            low = Rate(per_s=1.0, burst=2.0)
            assert await quota.take("a", low, 2) == 0.0
            assert await quota.take("a", low, 1) == pytest.approx(1.0, abs=1e-5)

    async def test_so_many_hold_and_no_more(self) -> None:
        async with self.open(FakeClock()) as quota:
            assert await quota.hold("a", "one", limit=2, ttl_s=10)
            assert await quota.hold("a", "two", limit=2, ttl_s=10)
            assert not await quota.hold("a", "three", limit=2, ttl_s=10)
            assert await quota.hold("b", "three", limit=2, ttl_s=10)
            await quota.release("a", "one")
            await quota.release("a", "one")
            await quota.release("nothing", "one")
            assert await quota.hold("a", "three", limit=2, ttl_s=10)
            assert not await quota.hold("a", "one", limit=2, ttl_s=10)

    async def test_who_holds_renews_it_and_who_falls_silent_loses_it(self) -> None:
        clock = FakeClock()
        async with self.open(clock) as quota:
            assert await quota.hold("a", "one", limit=1, ttl_s=10)
            await clock.advance(9)
            assert await quota.hold("a", "one", limit=1, ttl_s=10)
            await clock.advance(9)
            assert not await quota.hold("a", "two", limit=1, ttl_s=10)
            await clock.advance(1)
            assert await quota.hold("a", "two", limit=1, ttl_s=10)
            assert not await quota.hold("a", "one", limit=1, ttl_s=10)

    async def test_who_holds_keeps_it_below_a_lower_limit(self) -> None:
        async with self.open(FakeClock()) as quota:
            assert await quota.hold("a", "one", limit=2, ttl_s=10)
            assert await quota.hold("a", "two", limit=2, ttl_s=10)
            assert await quota.hold("a", "one", limit=1, ttl_s=10)
            assert not await quota.hold("a", "three", limit=1, ttl_s=10)

    async def test_two_processes_share_a_bucket(self) -> None:
        async with self.open_pair(FakeClock()) as (one, two):
            taken = await asyncio.gather(*(quota.take("a", _TEN) for _ in range(20) for quota in (one, two)))
            assert sum(wait_s == 0.0 for wait_s in taken) == 10
            await one.refund("a", _TEN, 3)
            assert await two.take("a", _TEN, 3) == 0.0

    async def test_two_processes_share_a_limit(self) -> None:
        async with self.open_pair(FakeClock()) as (one, two):
            held = await asyncio.gather(
                *(
                    q.hold("a", f"{n} {name}", limit=3, ttl_s=10)
                    for n in range(5)
                    for name, q in (("1", one), ("2", two))
                )
            )
            assert sum(held) == 3
            first = next(n for n, is_held in enumerate(held) if is_held)
            await two.release("a", f"{first // 2} {first % 2 + 1}")
            assert await one.hold("a", "next", limit=3, ttl_s=10)
