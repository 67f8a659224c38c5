"""How every ``Bus`` wakes those who wait: at once, for a reason, and only then."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager

import pytest

from collegium.adapters.clock import SystemClock
from collegium.ports import Bus, Clock
from collegium.testing.clock import FakeClock
from collegium.testing.conformance.bus import HIDE_S, message


@pytest.mark.asyncio
class BusWaitingConformance(ABC):
    """Subclass it as ``Test...`` and implement ``open``."""

    @abstractmethod
    def open(self, clock: Clock) -> AbstractAsyncContextManager[Bus]:
        """An empty bus with the ``RULES`` of ``conformance.bus``, closed at exit."""

    def open_pair(self, clock: Clock) -> AbstractAsyncContextManager[tuple[Bus, Bus]]:
        """Two buses on the same messages, as two processes would have them."""
        pytest.skip("one process only")

    async def test_news_wakes_every_waiter_of_its_topic(self) -> None:
        clock = FakeClock()
        async with self.open(clock) as bus:
            assert await bus.claim(["tasks.a", "tasks.b"], "workers") == ()
            waiters = [asyncio.ensure_future(bus.wait(["tasks.b", "tasks.a"], 100)) for _ in range(3)]
            other = asyncio.ensure_future(_looked_and_waited(bus, "tasks.c", 100))
            await _settle()
            await bus.publish(message("m"))
            async with asyncio.timeout(5):
                assert await asyncio.gather(*waiters) == [True] * 3
            assert not other.done()
            await clock.advance(100)
            assert await other is False

    async def test_what_was_published_since_the_last_look_is_news(self) -> None:
        async with self.open(FakeClock()) as bus:
            assert await bus.claim(["tasks.a"], "workers") == ()
            assert await bus.read("runs.1") == ()
            await bus.publish(message("m"))
            await bus.publish(message("r", "runs.1"))
            assert await bus.wait(["tasks.a"], 100)
            assert await bus.wait(["runs.1"], 100)

    async def test_what_was_looked_at_is_no_news(self) -> None:
        """Else a worker that may not take what is there, or a reader at the end of a topic, would spin."""
        clock = FakeClock()
        async with self.open(clock) as bus:
            await bus.publish(message("m1"))
            await bus.publish(message("m2"))
            await bus.publish(message("r", "runs.1"))
            await bus.claim(["tasks.a"], "workers")
            await bus.read("runs.1")
            waiter = asyncio.ensure_future(bus.wait(["tasks.a", "runs.1"], 5))
            await clock.advance(4.9)
            assert not waiter.done()
            await clock.advance(0.2)
            assert await waiter is False

    async def test_a_topic_that_nobody_has_looked_at_is_news_once(self) -> None:
        clock = FakeClock()
        async with self.open(clock) as bus:
            await bus.publish(message("m"))
            assert await bus.wait(["tasks.a"], 5)
            waiter = asyncio.ensure_future(bus.wait(["tasks.a"], 5))
            await clock.advance(6)
            assert await waiter is False

    async def test_no_time_means_a_look(self) -> None:
        async with self.open(FakeClock()) as bus:
            await bus.read("runs.1")
            assert not await bus.wait(["runs.1"], 0)
            await bus.publish(message("r", "runs.1"))
            assert await bus.wait(["runs.1"], 0)

    async def test_a_message_that_comes_back_is_news(self) -> None:
        clock = FakeClock()
        async with self.open(clock) as bus:
            await bus.publish(message("m"))
            await bus.claim(["tasks.a"], "workers")
            waiter = asyncio.ensure_future(bus.wait(["tasks.a"], 10 * HIDE_S))
            await clock.advance(HIDE_S - 1)
            assert not waiter.done()
            await clock.advance(1.1)
            assert await waiter is True
            assert len(await bus.claim(["tasks.a"], "workers")) == 1

    async def test_a_message_given_back_is_news_when_its_delay_is_over(self) -> None:
        clock = FakeClock()
        async with self.open(clock) as bus:
            await bus.publish(message("m"))
            (claim,) = await bus.claim(["tasks.a"], "workers")
            waiter = asyncio.ensure_future(bus.wait(["tasks.a"], 100))
            await _settle()
            await bus.settle(claim, requeue_after_s=3)
            await clock.advance(2.9)
            assert not waiter.done()
            await clock.advance(0.2)
            assert await waiter is True
            (claim,) = await bus.claim(["tasks.a"], "workers")
            waiter = asyncio.ensure_future(bus.wait(["tasks.a"], 100))
            await _settle()
            await bus.settle(claim, requeue_after_s=0)
            async with asyncio.timeout(5):
                assert await waiter is True

    async def test_delayed_work_is_news_when_it_is_due(self) -> None:
        clock = FakeClock()
        async with self.open(clock) as bus:
            assert await bus.claim(["tasks.a"], "workers") == ()
            waiter = asyncio.ensure_future(bus.wait(["tasks.a"], 100))
            await _settle()
            await bus.publish(message("m"), delay_s=3)
            await clock.advance(2.9)
            assert not waiter.done()
            await clock.advance(0.2)
            async with asyncio.timeout(5):
                assert await waiter is True
            assert len(await bus.claim(["tasks.a"], "workers")) == 1

    async def test_a_delayed_message_is_news_for_readers_at_once(self) -> None:
        async with self.open(FakeClock()) as bus:
            await bus.read("runs.1")
            await bus.publish(message("r", "runs.1"), delay_s=3)
            assert await bus.wait(["runs.1"], 0)
            assert len(await bus.read("runs.1")) == 1

    async def test_a_revived_letter_is_news(self) -> None:
        async with self.open(FakeClock()) as bus:
            await bus.publish(message("m"))
            (claim,) = await bus.claim(["tasks.a"], "workers")
            await bus.settle(claim, dead="no")
            assert await bus.claim(["tasks.a"], "workers") == ()
            waiter = asyncio.ensure_future(bus.wait(["tasks.a"], 100))
            await _settle()
            (letter,) = await bus.letters("tasks.a")
            assert await bus.revive(letter)
            async with asyncio.timeout(5):
                assert await waiter is True

    async def test_another_process_wakes_a_waiter_for_delayed_work(self) -> None:
        async with self.open_pair(SystemClock()) as (one, two):
            assert await two.claim(["tasks.a"], "workers") == ()
            waiter = asyncio.ensure_future(two.wait(["tasks.a"], 30))
            await _settle()
            await one.publish(message("m"), delay_s=0.05)
            async with asyncio.timeout(10):
                while not await two.claim(["tasks.a"], "workers"):
                    assert await waiter is True
                    waiter = asyncio.ensure_future(two.wait(["tasks.a"], 30))
            waiter.cancel()
            await asyncio.gather(waiter, return_exceptions=True)

    async def test_a_cancelled_waiter_leaves_nothing_behind(self) -> None:
        clock = FakeClock()
        async with self.open(clock) as bus:
            await bus.read("runs.1")
            before = len(asyncio.all_tasks())
            for _ in range(10):
                waiter = asyncio.ensure_future(bus.wait(["runs.1"], 100))
                await _settle()
                waiter.cancel()
                await asyncio.gather(waiter, return_exceptions=True)
            await clock.advance(1)
            assert len(asyncio.all_tasks()) <= before + 1

    async def test_another_process_wakes_a_waiter(self) -> None:
        async with self.open_pair(SystemClock()) as (one, two):
            assert await two.claim(["tasks.a"], "workers") == ()
            assert await two.read("runs.1") == ()
            for topic in ("tasks.a", "runs.1"):
                waiter = asyncio.ensure_future(two.wait([topic], 30))
                await _settle()
                await one.publish(message("m", topic))
                async with asyncio.timeout(10):
                    assert await waiter is True
            (claim,) = await one.claim(["tasks.a"], "workers")
            assert await two.claim(["tasks.a"], "workers") == ()
            waiter = asyncio.ensure_future(two.wait(["tasks.a"], 30))
            await _settle()
            await one.settle(claim, requeue_after_s=0.05)
            async with asyncio.timeout(10):
                assert await waiter is True
            assert len(await two.claim(["tasks.a"], "workers")) == 1


async def _looked_and_waited(bus: Bus, topic: str, timeout_s: float) -> bool:
    await bus.read(topic)
    return await bus.wait([topic], timeout_s)


async def _settle() -> None:
    """Lets the tasks that were just made run until they wait."""
    for _ in range(20):
        await asyncio.sleep(0)
