"""The real clock and the one that stands still."""

import asyncio
from datetime import UTC, timedelta

from collegium.adapters.clock import SystemClock
from collegium.testing.clock import FakeClock


async def test_the_system_clock_goes_on():
    clock = SystemClock()
    before, now = clock.monotonic(), clock.now()
    await clock.sleep(0.01)
    await clock.sleep(-1)
    assert 0.01 <= clock.monotonic() - before < 5
    assert now.tzinfo is UTC
    assert clock.now() > now


async def test_a_fake_clock_moves_both_times_together():
    clock = FakeClock()
    start = clock.now()
    await clock.advance(2.5)
    assert (clock.now() - start, clock.monotonic()) == (timedelta(seconds=2.5), 2.5)


async def test_sleepers_wake_in_the_order_of_their_times():
    clock, woken = FakeClock(), []

    async def sleeper(name: str, *seconds: float) -> None:
        for s in seconds:
            await clock.sleep(s)
            woken.append((name, clock.monotonic()))

    tasks = [asyncio.ensure_future(sleeper("a", 3, 3)), asyncio.ensure_future(sleeper("b", 1, 1, 1))]
    await clock.advance(2.5)
    assert woken == [("b", 1), ("b", 2)]
    await clock.advance(0.5)
    assert woken[2:] == [("a", 3), ("b", 3)]
    await clock.advance(10)
    assert woken[4:] == [("a", 6)]
    assert all(task.done() for task in tasks)


async def test_a_cancelled_sleeper_is_forgotten():
    clock = FakeClock()
    task = asyncio.ensure_future(clock.sleep(1))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await clock.advance(2)
    await clock.sleep(0)
    assert clock.monotonic() == 2
