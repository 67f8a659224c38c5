"""Processes that wait on one bus file wake each other: the clock of these tests stands still, so nobody polls."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from collegium.adapters.clock import SystemClock
from collegium.adapters.doorbells import Doorbells
from collegium.adapters.sqlite.bus import SqliteBus
from collegium.domain.message import Message
from collegium.testing.clock import FakeClock


def message(id_: str) -> Message:
    return Message(id=id_, topic="tasks.a", tenant="t", body={})


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


async def waiting(bus: SqliteBus) -> asyncio.Future[bool]:
    waiter = asyncio.ensure_future(bus.wait(["tasks.a"], 1_000))
    for _ in range(20):
        await asyncio.sleep(0)
    return waiter


async def test_a_message_of_another_process_wakes_everybody_who_waits(tmp_path: Path) -> None:
    buses = [SqliteBus(tmp_path / "bus.db", FakeClock()) for _ in range(3)]
    for bus in buses[1:]:
        assert await bus.claim(["tasks.a"], "workers") == ()
    waiters = [await waiting(bus) for bus in buses[1:]]
    await buses[0].publish(message("m"))
    assert await asyncio.wait_for(asyncio.gather(*waiters), 10) == [True, True]
    for bus in buses:
        await bus.aclose()
    assert names(tmp_path / "bus.db.waiting") == []


async def test_a_message_given_back_by_another_process_wakes_who_waits(tmp_path: Path) -> None:
    one, two = (SqliteBus(tmp_path / "bus.db", FakeClock()) for _ in range(2))
    await one.publish(message("m"))
    (claim,) = await one.claim(["tasks.a"], "workers")
    assert await two.claim(["tasks.a"], "workers") == ()
    waiter = await waiting(two)
    await one.settle(claim, requeue_after_s=0)
    assert await asyncio.wait_for(waiter, 10) is True
    await one.aclose()
    await two.aclose()


async def test_the_bell_of_a_killed_process_is_removed_and_a_full_one_is_left(tmp_path: Path) -> None:
    rings: list[int] = []
    mine, others = Doorbells(tmp_path, "mine"), Doorbells(tmp_path, "others")
    os.mkfifo(tmp_path / "killed.bell")
    assert mine.listen(lambda: rings.append(1))
    for _ in range(100_000):  # more than a pipe holds
        others.ring()
    assert names(tmp_path) == ["mine.bell"]
    async with asyncio.timeout(10):
        while not rings:  # noqa: ASYNC110 - what is waited for is no event of asyncio
            await asyncio.sleep(0)
    (tmp_path / "mine.bell").unlink()
    assert mine.listen(lambda: rings.append(1))
    heard = len(rings)
    others.ring()
    async with asyncio.timeout(10):
        while len(rings) == heard:  # noqa: ASYNC110 - what is waited for is no event of asyncio
            await asyncio.sleep(0)
    mine.close()
    mine.close()
    others.ring()
    others.close()


async def test_where_there_are_no_named_pipes_it_is_looked_for_messages(tmp_path: Path) -> None:
    (tmp_path / "bus.db.waiting").write_text("a file where the folder of the pipes would be")
    one, two = (SqliteBus(tmp_path / "bus.db", SystemClock()) for _ in range(2))
    assert await two.claim(["tasks.a"], "workers") == ()
    waiter = await waiting(two)
    await one.publish(message("m"))
    assert await asyncio.wait_for(waiter, 10) is True
    await one.aclose()
    await two.aclose()
