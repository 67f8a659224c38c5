"""Questions and answers on real buses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from collegium.adapters.clock import SystemClock
from collegium.adapters.memory.bus import MemoryBus
from collegium.adapters.sqlite.bus import SqliteBus
from collegium.bus.requests import answer, reply_topic, request
from collegium.domain.chat import Json
from collegium.domain.errors import TimedOut, TopicFull
from collegium.domain.ids import Ids
from collegium.domain.message import Claim, Message
from collegium.ports import Bus
from collegium.testing.clock import FakeClock


@pytest.fixture(params=["memory", "sqlite"])
async def bus(request: pytest.FixtureRequest, tmp_path: Path, clock: FakeClock) -> AsyncIterator[Bus]:
    if request.param == "memory":
        yield MemoryBus(clock)
        return
    sqlite = SqliteBus(tmp_path / "bus.db", clock)
    yield sqlite
    await sqlite.aclose()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def asking(bus: Bus, clock: FakeClock, body: Json, timeout_s: float = 60) -> asyncio.Task[Message]:
    ids = Ids(lambda: int(clock.now().timestamp() * 1_000))
    return asyncio.create_task(
        request(bus, "oracle", body, tenant="acme", timeout_s=timeout_s, clock=clock, ids=ids, priority=1)
    )


async def claimed(bus: Bus) -> Claim:
    (claim,) = await bus.claim(["oracle"], "oracles")
    return claim


async def test_a_question_is_answered(bus: Bus, clock: FakeClock) -> None:
    task = asking(bus, clock, {"of": "everything"})
    await settled()
    claim = await claimed(bus)
    assert (claim.message.body, claim.message.tenant, claim.message.priority) == ({"of": "everything"}, "acme", 1)
    assert claim.message.expires_at == clock.now() + timedelta(seconds=60)
    await answer(bus, claim, {"n": 42})
    async with asyncio.timeout(5):
        assert (await task).body == {"n": 42}
    assert await bus.depth(["oracle"]) == 0


async def test_answers_find_those_who_asked(bus: Bus, clock: FakeClock) -> None:
    tasks = [asking(bus, clock, {"n": n}) for n in range(5)]
    await settled()
    for claim in reversed(await bus.claim(["oracle"], "oracles", 9)):
        await answer(bus, claim, {"n": claim.message.body["n"] * 10})
    async with asyncio.timeout(5):
        assert [m.body["n"] for m in await asyncio.gather(*tasks)] == [0, 10, 20, 30, 40]


async def test_nobody_answers_in_time(bus: Bus, clock: FakeClock) -> None:
    task = asking(bus, clock, {}, timeout_s=30)
    await settled()
    await clock.advance(29)
    assert not task.done()
    await clock.advance(1)
    with pytest.raises(TimedOut, match="nobody answered on oracle within 30 s"):
        await task
    assert await bus.claim(["oracle"], "oracles") == (), "nobody waits for it any more"


async def test_the_first_of_two_answers_counts(bus: Bus, clock: FakeClock) -> None:
    task = asking(bus, clock, {}, timeout_s=600)
    await settled()
    slow = await claimed(bus)
    await clock.advance(60)
    await answer(bus, await claimed(bus), {"n": 1})
    await answer(bus, slow, {"n": 2})
    async with asyncio.timeout(5):
        assert (await task).body == {"n": 1}
    assert [m.body for m in await bus.read(reply_topic(slow.message.id))] == [{"n": 1}]


async def test_a_message_that_asks_for_no_answer_is_only_settled(bus: Bus) -> None:
    await bus.publish(Message(id="m", topic="oracle", tenant="acme", body={}))
    await answer(bus, await claimed(bus), {"n": 1})
    assert await bus.topics() == ("oracle",)
    assert await bus.depth(["oracle"]) == 0


async def test_a_question_that_the_bus_does_not_take_is_not_waited_for(clock: FakeClock) -> None:
    class Full(MemoryBus):
        async def publish(self, *messages: Message, delay_s: float = 0.0) -> int:
            raise TopicFull("full")

    with pytest.raises(TopicFull):
        await asking(Full(clock), clock, {})


async def test_answers_leave_nothing_behind(clock: FakeClock) -> None:
    bus = MemoryBus(clock)
    for n in range(300):
        task = asking(bus, clock, {"n": n}, timeout_s=10)
        await settled()
        await answer(bus, await claimed(bus), {"n": n})
        await task
        await clock.advance(1)
    assert len(await bus.topics(limit=1_000)) < 30, "replies go when nobody can wait for them any more"


async def test_processes_ask_each_other(tmp_path: Path) -> None:
    clock = SystemClock()
    one, two = (SqliteBus(tmp_path / "bus.db", clock) for _ in range(2))
    assert await two.claim(["oracle"], "oracles") == ()

    async def serve() -> None:
        while not (claims := await two.claim(["oracle"], "oracles")):
            await two.wait(["oracle"], 10)
        await answer(two, claims[0], {"n": claims[0].message.body["n"] + 1})

    serving = asyncio.create_task(serve())
    ids = Ids(lambda: int(clock.now().timestamp() * 1_000))
    reply = await request(one, "oracle", {"n": 41}, tenant="acme", timeout_s=20, clock=clock, ids=ids)
    assert reply.body == {"n": 42}
    await serving
    await one.aclose()
    await two.aclose()
