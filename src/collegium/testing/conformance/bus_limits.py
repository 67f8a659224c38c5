"""When every ``Bus`` delivers late, or not any more, and what it refuses."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager
from datetime import timedelta

import pytest

from collegium.domain.errors import TopicFull, UsageError
from collegium.domain.message import Message
from collegium.ports import Bus, Clock
from collegium.testing.clock import FakeClock
from collegium.testing.conformance.bus import HIDE_S, MAX_BYTES, MAX_WAITING, NOON, message

LOT = 500


@pytest.mark.asyncio
class BusLimitsConformance(ABC):
    """Subclass it as ``Test...`` and implement ``open``."""

    @abstractmethod
    def open(self, clock: Clock) -> AbstractAsyncContextManager[Bus]:
        """An empty bus with the ``RULES`` of ``conformance.bus``, closed at exit."""

    async def test_a_delayed_message_can_be_claimed_when_its_delay_is_over(self) -> None:
        clock = FakeClock()
        async with self.open(clock) as bus:
            assert await bus.claim(["tasks.a"], "workers") == ()
            assert await bus.publish(message("later"), message("later too"), delay_s=20) == 2
            assert await bus.publish(message("later")) == 0
            assert await bus.publish(message("now", priority=3)) == 1
            assert [c.message.id for c in await bus.claim(["tasks.a"], "workers", 9)] == ["now"]
            assert await bus.depth(["tasks.a"]) == 2
            await clock.advance(19)
            assert await bus.claim(["tasks.a"], "workers") == ()
            await clock.advance(1)
            claims = await bus.claim(["tasks.a"], "workers", 9)
            assert [(c.message.id, c.message.deliveries) for c in claims] == [("later", 1), ("later too", 1)]

    async def test_a_delay_holds_for_groups_that_join_meanwhile(self) -> None:
        clock = FakeClock()
        async with self.open(clock) as bus:
            await bus.publish(message("m", "news"), delay_s=20)
            assert [m.id for m in await bus.read("news")] == ["m"], "it can be read at once"
            assert await bus.claim(["news"], "one") == ()
            await clock.advance(20)
            assert len(await bus.claim(["news"], "one")) == 1
            assert len(await bus.claim(["news"], "two")) == 1

    @pytest.mark.parametrize("topic", ["tasks.a", "news"])
    async def test_an_expired_message_is_not_delivered(self, topic: str) -> None:
        clock = FakeClock()
        async with self.open(clock) as bus:
            assert await bus.claim([topic], "workers") == ()
            soon = NOON + timedelta(seconds=20)
            await bus.publish(*(message(f"m{n}", topic, expires_at=soon) for n in range(3)))
            await bus.publish(message("m3", topic, priority=3))
            (claim,) = await bus.claim([topic], "workers")
            assert claim.message.id == "m0"
            assert await bus.depth([topic]) == 3
            await clock.advance(20)
            assert await bus.depth([topic]) == 1
            assert [c.message.id for c in await bus.claim([topic], "workers", 9)] == ["m3"]
            await bus.settle(claim)
            assert await bus.claim([topic], "late", 9) != ()

    async def test_what_expires_while_it_is_claimed_does_not_come_back(self) -> None:
        clock = FakeClock()
        async with self.open(clock) as bus:
            await bus.publish(message("m", expires_at=NOON + timedelta(seconds=HIDE_S / 2)))
            assert len(await bus.claim(["tasks.a"], "workers")) == 1
            await clock.advance(HIDE_S + 1)
            assert await bus.claim(["tasks.a"], "workers") == ()
            assert await bus.depth(["tasks.a"]) == 0
            assert await bus.letters("tasks.a") == ()

    async def test_the_id_of_an_expired_message_is_free(self) -> None:
        clock = FakeClock()
        async with self.open(clock) as bus:
            for topic in ("tasks.a", "news"):
                soon = clock.now() + timedelta(seconds=20)
                assert await bus.publish(message("m", topic, expires_at=soon), message("n", topic)) == 2
                assert await bus.publish(message("m", topic)) == 0
                await clock.advance(20)
                assert await bus.publish(message("m", topic, n=2), message("n", topic)) == 1
                claims = await bus.claim([topic], "workers", 9)
                assert sorted((c.message.id, c.message.body.get("n")) for c in claims) == [("m", 2), ("n", None)]

    async def test_a_message_that_is_too_large_is_refused_with_all_of_its_lot(self) -> None:
        async with self.open(FakeClock()) as bus:
            large = message("large", "news", text="x" * MAX_BYTES)
            with pytest.raises(UsageError, match=r"8,\d\d\d bytes.*8,192"):
                await bus.publish(message("small", "news"), large)
            assert await bus.read("news") == ()
            assert await bus.publish(message("fits", "news", text="x" * (MAX_BYTES - 20))) == 1

    @pytest.mark.parametrize("topic", ["", " ", "a b", "a/b", "*", "tasks.\n", "x" * 201, "\u00fc"])
    async def test_a_name_that_no_topic_can_have_is_refused(self, topic: str) -> None:
        async with self.open(FakeClock()) as bus:
            with pytest.raises(UsageError, match="no name of a topic"):
                await bus.publish(message("m"), message("m", topic))
            assert await bus.claim(["tasks.a"], "workers") == ()

    async def test_a_body_that_is_no_json_is_refused(self) -> None:
        async with self.open(FakeClock()) as bus:
            for value in (object(), "\ud800", {(1, 2): {object()}}):
                with pytest.raises(UsageError, match="JSON"):
                    await bus.publish(Message(id="m", topic="tasks.a", tenant="acme", body={"value": value}))

    async def test_an_unknown_topic_is_empty(self) -> None:
        async with self.open(FakeClock()) as bus:
            assert await bus.claim(["tasks.never"], "workers", 9) == ()
            assert await bus.depth(["tasks.never", "never"]) == 0
            assert await bus.read("never") == ()
            assert await bus.letters("never") == ()

    async def test_a_topic_takes_so_many_and_no_more(self) -> None:
        async with self.open(FakeClock()) as bus:
            for start in range(0, MAX_WAITING, LOT):
                await bus.publish(*(message(f"m{start + n}") for n in range(LOT)))
            with pytest.raises(TopicFull, match=r"12,000 messages wait on tasks\.a.*12,000"):
                await bus.publish(message("beyond"))
            assert await bus.publish(message("m0")) == 0, "it is there already"
            assert await bus.publish(message("m0", "tasks.b")) == 1
            for claim in await bus.claim(["tasks.a"], "workers", 2):
                await bus.settle(claim)
            with pytest.raises(TopicFull):
                await bus.publish(*(message(f"x{n}") for n in range(3)))
            assert await bus.publish(message("x0"), message("x1")) == 2

    async def test_who_only_reads_is_not_waited_for(self) -> None:
        async with self.open(FakeClock()) as bus:
            for start in range(0, MAX_WAITING + LOT, LOT):
                await bus.publish(*(message(f"m{start + n}", "news") for n in range(LOT)))
            assert (await bus.read("news", limit=2 * LOT))[-1].id == f"m{MAX_WAITING + LOT - 1}"
