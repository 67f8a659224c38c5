"""A consumer: everything is handled, what fails is tried again, what fails for good is put aside."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from collegium.adapters.memory.bus import MemoryBus
from collegium.bus.consumer import AWAY_S, Consumer
from collegium.domain.chat import Json
from collegium.domain.errors import StoreUnavailable, UsageError
from collegium.domain.message import Claim, Message
from collegium.ports import Bus
from collegium.testing.clock import FakeClock

Handle = Callable[[Message], Awaitable[Json | None]]


def message(id_: str, **fields: Any) -> Message:
    return Message(**{"id": id_, "topic": "orders", "tenant": "acme", "body": {}, **fields})


@asynccontextmanager
async def consuming(bus: Bus, clock: FakeClock, handle: Handle, **options: Any) -> AsyncIterator[None]:
    task = asyncio.create_task(Consumer(bus, ["orders"], "shop", handle, clock=clock, **options).run())
    try:
        await settled()
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def settled() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


async def test_messages_are_handled_and_settled_and_answered() -> None:
    clock = FakeClock()
    bus, seen = MemoryBus(clock), list[str]()

    async def handle(got: Message) -> Json:
        seen.append(got.id)
        return {"done": got.id}

    await bus.publish(message("m1"), message("m2", reply_to="replies.m2"))
    async with consuming(bus, clock, handle):
        await bus.publish(message("m3"))
        await settled()
    assert seen == ["m1", "m2", "m3"]
    assert [m.body for m in await bus.read("replies.m2")] == [{"done": "m2"}]
    assert await bus.depth(["orders"]) == 0


async def test_what_fails_is_tried_again_later_and_at_last_put_aside() -> None:
    clock = FakeClock()
    bus, tries = MemoryBus(clock), list[float]()

    async def handle(_: Message) -> Json:
        tries.append(clock.monotonic())
        raise ValueError("no such address")

    await bus.publish(message("m"))
    async with consuming(bus, clock, handle, max_failures=4, first_delay_s=2, max_delay_s=5):
        for _ in range(30):
            await clock.advance(1)
            await settled()
    assert tries == [0, 2, 6, 11]
    (letter,) = await bus.letters("orders")
    assert letter.reason == "tried 4 times, at last: ValueError: no such address"


async def test_what_cannot_be_helped_is_put_aside_at_once_and_the_others_go_on() -> None:
    clock = FakeClock()
    bus, seen = MemoryBus(clock), list[str]()

    async def handle(got: Message) -> Json | None:
        if got.id == "bad":
            raise UsageError("there is no such thing")
        seen.append(got.id)
        return None

    await bus.publish(message("bad"), message("good"))
    async with consuming(bus, clock, handle):
        await settled()
    assert seen == ["good"]
    assert [x.reason for x in await bus.letters("orders")] == [
        "tried once, at last: UsageError: there is no such thing"
    ]


async def test_no_more_are_held_than_are_dealt_with() -> None:
    clock = FakeClock()
    bus, gate, most, now = MemoryBus(clock), asyncio.Event(), 0, 0

    async def handle(_: Message) -> Json | None:
        nonlocal most, now
        now += 1
        most = max(most, now)
        await gate.wait()
        now -= 1
        return None

    await bus.publish(*(message(f"m{n}") for n in range(50)))
    async with consuming(bus, clock, handle, concurrency=3):
        assert (most, await bus.depth(["orders"])) == (3, 47)
        gate.set()
        async with asyncio.timeout(5):
            while await bus.depth(["orders"]):
                await settled()
    assert most == 3


async def test_what_is_being_handled_at_the_end_is_given_back() -> None:
    clock = FakeClock()
    bus = MemoryBus(clock)

    async def handle(_: Message) -> None:
        await asyncio.Event().wait()

    await bus.publish(message("m"))
    async with consuming(bus, clock, handle):
        assert await bus.depth(["orders"]) == 0
    assert len(await bus.claim(["orders"], "shop")) == 1


async def test_a_bus_that_is_away_is_waited_for() -> None:
    class Away(MemoryBus):
        is_away = True

        async def claim(self, topics: Sequence[str], group: str, limit: int = 1) -> tuple[Claim, ...]:
            if self.is_away:
                raise StoreUnavailable("away")
            return await super().claim(topics, group, limit)

    clock = FakeClock()
    bus, seen = Away(clock), list[str]()

    async def handle(got: Message) -> Json | None:
        seen.append(got.id)
        return None

    await bus.publish(message("m"))
    async with consuming(bus, clock, handle):
        await clock.advance(3 * AWAY_S)
        assert seen == []
        bus.is_away = False
        await clock.advance(2 * AWAY_S)
        await settled()
    assert seen == ["m"]
