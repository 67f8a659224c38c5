"""What every ``Bus`` does. Time stands still unless a test advances it.

Turns of tenants: ``bus_turns.py``. Delays, ends and refusals: ``bus_limits.py``. Dead letters: ``bus_letters.py``.
Waiting: ``bus_waiting.py``. Topics ``tasks.*`` are claimed only: no suite reads them.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta

import pytest

from collegium.adapters.bus_rules import BusRules
from collegium.domain.message import Claim, Message
from collegium.ports import Bus, Clock
from collegium.testing.clock import FakeClock

HIDE_S = 30.0
AGING_S = 60.0
KEEP = 200
MAX_DELIVERIES = 3
MAX_BYTES = 8_192
MAX_WAITING = 12_000
RULES = BusRules(
    hide_s=HIDE_S,
    aging_s=AGING_S,
    keep=KEEP,
    weights={"double": 2.0, "quadruple": 4.0},
    max_deliveries=MAX_DELIVERIES,
    max_bytes=MAX_BYTES,
    max_waiting=MAX_WAITING,
)
"""The rules that ``open`` must give the bus."""
NOON = FakeClock().now()
"""When a test begins."""


def message(
    id_: str,
    topic: str = "tasks.a",
    *,
    tenant: str = "acme",
    priority: int = 2,
    expires_at: datetime | None = None,
    **body: object,
) -> Message:
    """A message as a publisher makes it."""
    return Message(id=id_, topic=topic, tenant=tenant, body=body, priority=priority, expires_at=expires_at)


@pytest.mark.asyncio
class BusConformance(ABC):
    """Subclass it as ``Test...`` and implement ``open``."""

    @abstractmethod
    def open(self, clock: Clock) -> AbstractAsyncContextManager[Bus]:
        """An empty bus with ``RULES``, closed at exit."""

    def open_pair(self, clock: Clock) -> AbstractAsyncContextManager[tuple[Bus, Bus]]:
        """Two buses on the same messages, as two processes would have them."""
        pytest.skip("one process only")

    async def test_a_message_arrives_as_it_was_sent(self) -> None:
        async with self.open(FakeClock()) as bus:
            soon = NOON + timedelta(seconds=90)
            body = {"text": "\x00 \u20ac \U0001f600", "n": [1, 2.5, None, {"a": True}]}
            for topic in ("tasks.a", "news"):
                sent = Message(
                    id="m", topic=topic, tenant="acme", body=body, priority=1, reply_to="replies.1", expires_at=soon
                )
                assert await bus.publish(sent) == 1
                (claim,) = await bus.claim([topic], "workers")
                got = claim.message
                assert (got.id, got.topic, got.tenant, got.body) == (sent.id, sent.topic, sent.tenant, sent.body)
                assert (got.priority, got.reply_to, got.expires_at, got.at) == (1, "replies.1", soon, NOON)
                assert (got.deliveries, claim.group) == (1, "workers")
                assert got.seq > 0

    async def test_a_message_is_what_it_was_when_it_was_published(self) -> None:
        async with self.open(FakeClock()) as bus:
            body = {"n": [1]}
            await bus.publish(Message(id="m", topic="news", tenant="acme", body=body))
            body["n"].append(2)
            (read,) = await bus.read("news")
            assert read.body == {"n": [1]}
            read.body["n"].append(3)
            (claim,) = await bus.claim(["news"], "workers")
            assert claim.message.body == {"n": [1]}

    async def test_a_lot_is_published_at_once_and_in_order(self) -> None:
        async with self.open(FakeClock()) as bus:
            assert await bus.publish() == 0
            lot = [message(f"m{n}", "news", n=n) for n in range(50)]
            assert await bus.publish(*lot, message("m7", "news", n="again"), message("w")) == 51
            assert await bus.publish(*lot, message("m50", "news", n=50)) == 1
            assert [m.body for m in await bus.read("news")] == [{"n": n} for n in range(51)]
            assert await _claimed(bus, limit=9) == ["w"]

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

    @pytest.mark.parametrize("topic", ["tasks.a", "news"])
    async def test_every_group_gets_every_message(self, topic: str) -> None:
        """One that joins late begins with what no group has settled yet."""
        async with self.open(FakeClock()) as bus:
            await bus.publish(message("m1", topic))
            (one,) = await bus.claim([topic], "one", 9)
            await bus.settle(one)
            await bus.publish(message("m2", topic))
            two = await bus.claim([topic], "two", 9)
            assert [c.message.id for c in two] == ["m2"]
            await bus.publish(message("m3", topic))
            assert await _claimed(bus, [topic], group="one", limit=9) == ["m2", "m3"]
            assert await _claimed(bus, [topic], group="two", limit=9) == ["m3"]
            await bus.settle(two[0])
            assert await bus.depth([topic]) == 0

    async def test_a_new_reader_gets_what_others_have_settled(self) -> None:
        """From the beginning, page by page, or from a moment on."""
        clock = FakeClock()
        async with self.open(clock) as bus:
            for n in range(7):
                await bus.publish(message(f"m{n}", "news"))
                await clock.advance(10)
            for claim in await bus.claim(["news"], "workers", 9):
                await bus.settle(claim)
            replayed: list[Message] = []
            while page := await bus.read("news", replayed[-1].seq if replayed else 0, 3):
                replayed += page
            assert [m.id for m in replayed] == [f"m{n}" for n in range(7)]
            assert [m.at for m in replayed] == [NOON + timedelta(seconds=10 * n) for n in range(7)]
            since = NOON + timedelta(seconds=30)
            assert await bus.read("news", since=since) == tuple(replayed[3:])
            assert await bus.read("news", since=since + timedelta(milliseconds=1)) == tuple(replayed[4:])
            assert await bus.read("news", replayed[4].seq, 1, since=since) == (replayed[5],)
            assert await bus.read("news", since=NOON + timedelta(days=1)) == ()

    async def test_read_is_in_order_and_sees_settled_messages(self) -> None:
        async with self.open(FakeClock()) as bus:
            for n in range(6):
                await bus.publish(message(f"m{n}", "news", priority=n % 4, n=n))
                await bus.publish(message(f"o{n}", "other"))
            for claim in await bus.claim(["news"], "workers", 3):
                await bus.settle(claim)
            read = await bus.read("news")
            assert [m.body for m in read] == [{"n": n} for n in range(6)]
            assert [m.seq for m in read] == sorted({m.seq for m in read})
            assert await bus.read("news", after=read[2].seq) == read[3:]
            assert await bus.read("news", after=read[0].seq, limit=2) == read[1:3]
            assert await bus.read("news", after=read[-1].seq) == ()
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
            assert await bus.depth(["tasks.a"]) == 0

    async def test_of_a_topic_that_is_claimed_from_only_settled_messages_go(self) -> None:
        async with self.open(FakeClock()) as bus:
            assert await bus.claim(["news"], "workers") == ()
            await bus.publish(*(message(f"m{n}", "news") for n in range(2 * KEEP)))
            claims = await bus.claim(["news"], "workers", 2 * KEEP)
            assert [c.message.id for c in claims] == [f"m{n}" for n in range(2 * KEEP)]
            for claim in claims:
                await bus.settle(claim)
            for n in range(KEEP):
                await bus.publish(message(f"n{n}", "news"))
            assert KEEP <= len(await bus.read("news")) < 2 * KEEP

    async def test_topics_are_known_by_name(self) -> None:
        async with self.open(FakeClock()) as bus:
            assert await bus.topics() == ()
            await bus.claim(["tasks.b"], "workers")
            await bus.publish(message("m"), message("n", "news"), message("o", "orders"))
            assert await bus.topics() == ("news", "orders", "tasks.a", "tasks.b")
            assert await bus.topics("news", 2) == ("orders", "tasks.a")
            assert await bus.topics("tasks.b") == ()

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
