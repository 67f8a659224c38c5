"""Following a topic: all of it, in order, from anywhere, with little in hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta

from collegium.adapters.bus_rules import BusRules
from collegium.adapters.memory.bus import MemoryBus
from collegium.bus.feed import LOOK_S, follow
from collegium.domain.message import Claim, Letter, Message
from collegium.ports import Bus
from collegium.testing.clock import FakeClock

TOPIC = "runs.1.board"


async def put(bus: Bus, *names: str) -> None:
    await bus.publish(*(Message(id=name, topic=TOPIC, tenant="acme", body={}) for name in names))


async def taken(feed: AsyncIterator[Message], count: int) -> list[Message]:
    async with asyncio.timeout(5):
        return [await anext(feed) for _ in range(count)]


async def settled() -> None:
    for _ in range(30):
        await asyncio.sleep(0)


async def test_what_is_there_comes_first_then_what_comes() -> None:
    bus = MemoryBus(FakeClock())
    await put(bus, *(f"m{n}" for n in range(250)))
    feed = follow(bus, TOPIC)
    assert [m.id for m in await taken(feed, 250)] == [f"m{n}" for n in range(250)]
    coming = asyncio.ensure_future(taken(feed, 2))
    await settled()
    assert not coming.done()
    await put(bus, "new", "newer")
    assert [m.id for m in await coming] == ["new", "newer"]


async def test_it_begins_after_a_number_or_at_a_time() -> None:
    clock = FakeClock()
    bus = MemoryBus(clock)
    for n in range(6):
        await put(bus, f"m{n}")
        await clock.advance(10)
    (third,) = (await bus.read(TOPIC))[2:3]
    assert [m.id for m in await taken(follow(bus, TOPIC, after=third.seq), 3)] == ["m3", "m4", "m5"]
    since = (third.at or clock.now()) + timedelta(seconds=15)
    assert [m.id for m in await taken(follow(bus, TOPIC, since=since), 2)] == ["m4", "m5"]


async def test_a_slow_reader_holds_a_page_and_no_more() -> None:
    """What the bus keeps is the bus's: the rest of the topic is read when it is asked for."""
    bus = Watched(FakeClock(), BusRules(keep=100_000))
    await put(bus, *(f"m{n}" for n in range(5_000)))
    feed = follow(bus, TOPIC, page=10)
    await taken(feed, 25)
    assert bus.read_so_far == 30


async def test_a_bus_that_counts_anew_is_followed() -> None:
    clock = FakeClock()
    bus = Swapped(MemoryBus(clock))
    await put(bus, *(f"m{n}" for n in range(5)))
    feed = follow(bus, TOPIC)
    await taken(feed, 5)
    await clock.advance(1)
    bus.inner = MemoryBus(clock)
    await put(bus, "a", "b")
    coming = asyncio.ensure_future(taken(feed, 2))
    await settled()
    await clock.advance(LOOK_S)
    await clock.advance(LOOK_S)
    assert [m.id for m in await coming] == ["a", "b"]


class Watched(MemoryBus):
    read_so_far = 0

    async def read(
        self, topic: str, after: int = 0, limit: int = 1_000, *, since: datetime | None = None
    ) -> tuple[Message, ...]:
        messages = await super().read(topic, after, limit, since=since)
        self.read_so_far += len(messages)
        return messages


class Swapped:
    """A bus behind which another one can be put."""

    def __init__(self, inner: Bus) -> None:
        self.inner = inner

    async def publish(self, *messages: Message, delay_s: float = 0.0) -> int:
        return await self.inner.publish(*messages, delay_s=delay_s)

    async def claim(self, topics: Sequence[str], group: str, limit: int = 1) -> tuple[Claim, ...]:
        return await self.inner.claim(topics, group, limit)

    async def settle(self, claim: Claim, *, requeue_after_s: float | None = None, dead: str | None = None) -> None:
        await self.inner.settle(claim, requeue_after_s=requeue_after_s, dead=dead)

    async def read(
        self, topic: str, after: int = 0, limit: int = 1_000, *, since: datetime | None = None
    ) -> tuple[Message, ...]:
        return await self.inner.read(topic, after, limit, since=since)

    async def letters(self, topic: str, after: int = 0, limit: int = 100) -> tuple[Letter, ...]:
        return await self.inner.letters(topic, after, limit)

    async def revive(self, letter: Letter) -> bool:
        return await self.inner.revive(letter)

    async def topics(self, after: str = "", limit: int = 1_000) -> tuple[str, ...]:
        return await self.inner.topics(after, limit)

    async def depth(self, topics: Sequence[str]) -> int:
        return await self.inner.depth(topics)

    async def wait(self, topics: Sequence[str], timeout_s: float) -> bool:
        return await self.inner.wait(topics, timeout_s)
