"""What every ``Bus`` does. Time stands still unless a test advances it; waiting: ``bus_waiting.py``."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager

import pytest

from collegium.domain.message import Claim, Message
from collegium.ports import Bus, Clock
from collegium.testing.clock import FakeClock

HIDE_S = 30.0
AGING_S = 60.0
KEEP = 200
"""The rules that ``open`` must give the bus."""


def message(id_: str, topic: str = "tasks.a", *, priority: int = 2, **body: object) -> Message:
    """A message as a publisher makes it."""
    return Message(id=id_, topic=topic, tenant="acme", body=body, priority=priority)


@pytest.mark.asyncio
class BusConformance(ABC):
    """Subclass it as ``Test...`` and implement ``open``."""

    @abstractmethod
    def open(self, clock: Clock) -> AbstractAsyncContextManager[Bus]:
        """An empty bus with the rules ``HIDE_S``, ``AGING_S`` and ``KEEP``, closed at exit."""

    def open_pair(self, clock: Clock) -> AbstractAsyncContextManager[tuple[Bus, Bus]]:
        """Two buses on the same messages, as two processes would have them."""
        pytest.skip("one process only")

    async def test_a_message_arrives_as_it_was_sent(self) -> None:
        async with self.open(FakeClock()) as bus:
            sent = message("m", priority=1, text="\x00 \u20ac \U0001f600", n=[1, 2.5, None, {"a": True}])
            assert await bus.publish(sent)
            (claim,) = await bus.claim(["tasks.a"], "workers")
            got = claim.message
            assert (got.id, got.topic, got.tenant, got.body) == (sent.id, sent.topic, sent.tenant, sent.body)
            assert (got.priority, got.deliveries, claim.group) == (1, 1, "workers")
            assert got.seq > 0

    async def test_the_same_id_is_published_once_until_it_is_settled(self) -> None:
        async with self.open(FakeClock()) as bus:
            assert await bus.publish(message("m", n=1))
            assert not await bus.publish(message("m", n=2))
            assert await bus.publish(message("m", "tasks.b"))
            (claim,) = await bus.claim(["tasks.a"], "workers", 5)
            assert claim.message.body == {"n": 1}
            assert not await bus.publish(message("m", n=3))
            await bus.settle(claim)
            assert await bus.publish(message("m", n=4))
            assert [c.message.body for c in await bus.claim(["tasks.a"], "workers", 5)] == [{"n": 4}]

    async def test_urgent_first_then_oldest(self) -> None:
        async with self.open(FakeClock()) as bus:
            for n, priority in enumerate([2, 3, 0, 2, 1, 0]):
                await bus.publish(message(f"m{n}", priority=priority))
            assert await _claimed(bus, limit=2) == ["m2", "m5"]
            assert await _claimed(bus, limit=9) == ["m4", "m0", "m3", "m1"]
            assert await _claimed(bus) == []

    async def test_topics_are_claimed_together_or_apart(self) -> None:
        async with self.open(FakeClock()) as bus:
            for n, topic in enumerate(["a", "b", "c", "b", "a"]):
                await bus.publish(message(f"m{n}", f"tasks.{topic}", priority=2 - n // 4))
            assert await _claimed(bus, ["tasks.c"], limit=9) == ["m2"]
            assert await _claimed(bus, ["tasks.b", "tasks.a"], limit=2) == ["m4", "m0"]
            assert await _claimed(bus, ["tasks.b", "tasks.none", "tasks.b"], limit=9) == ["m1", "m3"]
            assert await _claimed(bus, [], limit=9) == []
            assert await _claimed(bus, limit=0) == []

    async def test_waiting_outweighs_priority_in_the_end(self) -> None:
        clock = FakeClock()
        async with self.open(clock) as bus:
            await bus.publish(message("low", priority=3))
            await clock.advance(3 * AGING_S - 1)
            await bus.publish(message("urgent", priority=0))
            assert await _claimed(bus) == ["urgent"]
            await clock.advance(2)
            await bus.publish(message("urgent too", priority=0))
            assert await _claimed(bus) == ["low"]

    async def test_nothing_starves_below_a_flood_of_urgent_work(self) -> None:
        clock = FakeClock()
        async with self.open(clock) as bus:
            await bus.publish(message("low", priority=3))
            for n in range(60):
                await bus.publish(message(f"urgent {n} a", priority=0))
                await bus.publish(message(f"urgent {n} b", priority=0))
                for claim in await bus.claim(["tasks.a"], "workers"):
                    await bus.settle(claim)
                    if claim.message.id == "low":
                        return
                await clock.advance(AGING_S / 4)
            pytest.fail("the low message was never claimed")

    async def test_a_claimed_message_comes_back_after_the_hide_time(self) -> None:
        clock = FakeClock()
        async with self.open(clock) as bus:
            await bus.publish(message("m"))
            (first,) = await bus.claim(["tasks.a"], "workers")
            await clock.advance(HIDE_S - 1)
            assert await bus.claim(["tasks.a"], "workers") == ()
            await clock.advance(1)
            (second,) = await bus.claim(["tasks.a"], "workers")
            assert (second.message.deliveries, second.message.seq) == (2, first.message.seq)
            assert second.token != first.token
            await bus.settle(first)
            await bus.settle(first, requeue_after_s=0)
            assert await bus.claim(["tasks.a"], "workers") == ()
            await clock.advance(HIDE_S)
            (third,) = await bus.claim(["tasks.a"], "workers")
            assert third.message.deliveries == 3
            await bus.settle(third)
            await clock.advance(HIDE_S)
            assert await bus.claim(["tasks.a"], "workers") == ()

    async def test_a_late_settlement_counts_until_somebody_else_has_claimed(self) -> None:
        clock = FakeClock()
        async with self.open(clock) as bus:
            await bus.publish(message("m"))
            (claim,) = await bus.claim(["tasks.a"], "workers")
            await clock.advance(HIDE_S + 1)
            assert await bus.depth(["tasks.a"]) == 1
            await bus.settle(claim)
            await bus.settle(claim)
            assert await bus.claim(["tasks.a"], "workers") == ()

    async def test_given_back_at_once_or_later(self) -> None:
        clock = FakeClock()
        async with self.open(clock) as bus:
            await bus.publish(message("m"))
            (claim,) = await bus.claim(["tasks.a"], "workers")
            await bus.settle(claim, requeue_after_s=0)
            (claim,) = await bus.claim(["tasks.a"], "workers")
            assert claim.message.deliveries == 2
            await bus.settle(claim, requeue_after_s=10)
            await bus.settle(claim)
            assert await bus.claim(["tasks.a"], "workers") == ()
            await clock.advance(9)
            assert await bus.claim(["tasks.a"], "workers") == ()
            await clock.advance(1)
            (claim,) = await bus.claim(["tasks.a"], "workers")
            assert claim.message.deliveries == 3

    async def test_every_group_gets_every_message(self) -> None:
        async with self.open(FakeClock()) as bus:
            await bus.publish(message("m1"))
            (one,) = await bus.claim(["tasks.a"], "one", 9)
            await bus.settle(one)
            await bus.publish(message("m2"))
            two = await bus.claim(["tasks.a"], "two", 9)
            assert [c.message.id for c in two] == ["m2"]
            await bus.publish(message("m3"))
            assert await _claimed(bus, group="one", limit=9) == ["m2", "m3"]
            assert await _claimed(bus, group="two", limit=9) == ["m3"]
            await bus.settle(two[0])
            assert [m.id for m in await bus.read("tasks.a")] == ["m1", "m2", "m3"]

    async def test_read_is_in_order_and_sees_settled_messages(self) -> None:
        async with self.open(FakeClock()) as bus:
            for n in range(6):
                await bus.publish(message(f"m{n}", priority=n % 4, n=n))
                await bus.publish(message(f"o{n}", "other"))
            for claim in await bus.claim(["tasks.a"], "workers", 3):
                await bus.settle(claim)
            read = await bus.read("tasks.a")
            assert [m.body for m in read] == [{"n": n} for n in range(6)]
            assert [m.seq for m in read] == sorted({m.seq for m in read})
            assert await bus.read("tasks.a", after=read[2].seq) == read[3:]
            assert await bus.read("tasks.a", after=read[0].seq, limit=2) == read[1:3]
            assert await bus.read("tasks.a", after=read[-1].seq) == ()
            assert await bus.read("nothing") == ()

    async def test_depth_counts_what_nobody_holds(self) -> None:
        clock = FakeClock()
        async with self.open(clock) as bus:
            for n in range(4):
                await bus.publish(message(f"m{n}"))
            await bus.publish(message("b", "tasks.b"))
            assert await bus.depth(["tasks.a", "tasks.b", "tasks.a", "tasks.c"]) == 5
            claims = await bus.claim(["tasks.a"], "workers", 3)
            assert await bus.depth(["tasks.a"]) == 1
            await bus.settle(claims[0])
            await bus.settle(claims[1], requeue_after_s=5)
            assert await bus.depth(["tasks.a"]) == 2
            await clock.advance(HIDE_S)
            assert await bus.depth(["tasks.a"]) == 3

    async def test_old_messages_go_but_never_waiting_work(self) -> None:
        async with self.open(FakeClock()) as bus:
            assert await bus.claim(["tasks.a"], "workers") == ()
            for n in range(2 * KEEP):
                await bus.publish(message(f"m{n}"))
                await bus.publish(message(f"r{n}", "runs.1.events"))
            assert KEEP <= len(await bus.read("runs.1.events")) < 2 * KEEP
            assert await bus.depth(["tasks.a"]) == 2 * KEEP
            claims = await bus.claim(["tasks.a"], "workers", 2 * KEEP)
            assert [c.message.id for c in claims] == [f"m{n}" for n in range(2 * KEEP)]
            for claim in claims:
                await bus.settle(claim)
            for n in range(KEEP):
                await bus.publish(message(f"n{n}"))
            assert KEEP <= len(await bus.read("tasks.a")) < 2 * KEEP

    async def test_many_claimers_share_without_overlap(self) -> None:
        async with self.open(FakeClock()) as bus:
            for n in range(60):
                await bus.publish(message(f"m{n}"))
            assert sorted(await _drained([bus] * 6)) == sorted(f"m{n}" for n in range(60))

    async def test_two_processes_share_without_overlap(self) -> None:
        async with self.open_pair(FakeClock()) as (one, two):
            published = await asyncio.gather(*(b.publish(message(f"m{n}")) for n in range(40) for b in (one, two)))
            assert sum(published) == 40
            assert sorted(await _drained([one, two] * 3)) == sorted(f"m{n}" for n in range(40))

    async def test_groups_of_another_process_count(self) -> None:
        async with self.open_pair(FakeClock()) as (one, two):
            assert await two.claim(["tasks.a"], "workers") == ()
            await one.publish(message("m"))
            (claim,) = await two.claim(["tasks.a"], "workers")
            assert await one.claim(["tasks.a"], "workers") == ()
            await one.settle(Claim(message=claim.message, group="workers", token=claim.token))
            assert await two.depth(["tasks.a"]) == 0
            assert await two.publish(message("m"))


async def _claimed(
    bus: Bus, topics: Sequence[str] = ("tasks.a",), *, group: str = "workers", limit: int = 1
) -> list[str]:
    return [claim.message.id for claim in await bus.claim(topics, group, limit)]


async def _drained(buses: Sequence[Bus]) -> list[str]:
    """What so many workers claim until nothing is left."""

    async def work(bus: Bus) -> list[str]:
        done = []
        while claims := await bus.claim(["tasks.a"], "workers", 2):
            await asyncio.sleep(0)
            for claim in claims:
                await bus.settle(claim)
                done.append(claim.message.id)
        return done

    return [id_ for part in await asyncio.gather(*map(work, buses)) for id_ in part]
