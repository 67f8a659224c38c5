"""What every ``Bus`` does with messages that nobody can deal with."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager

import pytest

from collegium.domain.message import Claim
from collegium.ports import Bus, Clock
from collegium.testing.clock import FakeClock
from collegium.testing.conformance.bus import HIDE_S, MAX_DELIVERIES, NOON, message


@pytest.mark.asyncio
class BusLettersConformance(ABC):
    """Subclass it as ``Test...`` and implement ``open``."""

    @abstractmethod
    def open(self, clock: Clock) -> AbstractAsyncContextManager[Bus]:
        """An empty bus with the ``RULES`` of ``conformance.bus``, closed at exit."""

    @pytest.mark.parametrize("topic", ["tasks.a", "news"])
    async def test_a_dead_letter_is_kept_with_its_reason(self, topic: str) -> None:
        async with self.open(FakeClock()) as bus:
            await bus.publish(message("m1", topic, n=1), message("m2", topic))
            one, two = await bus.claim([topic], "workers", 9)
            await bus.settle(one, dead="the address does not exist")
            await bus.settle(one, dead="twice")
            await bus.settle(two)
            (letter,) = await bus.letters(topic)
            assert (letter.group, letter.reason, letter.at) == ("workers", "the address does not exist", NOON)
            assert (letter.message.id, letter.message.body, letter.message.seq) == ("m1", {"n": 1}, one.message.seq)
            assert (letter.message.tenant, letter.message.deliveries) == ("acme", 1)
            assert await bus.claim([topic], "workers") == ()
            assert await bus.depth([topic]) == 0

    async def test_whoever_falls_silent_too_often_makes_a_dead_letter(self) -> None:
        clock = FakeClock()
        async with self.open(clock) as bus:
            await bus.publish(message("m"))
            claims: list[Claim] = []
            for _ in range(MAX_DELIVERIES):
                assert await bus.letters("tasks.a") == ()
                claims += await bus.claim(["tasks.a"], "workers")
                await clock.advance(HIDE_S)
            assert [c.message.deliveries for c in claims] == list(range(1, MAX_DELIVERIES + 1))
            assert await bus.claim(["tasks.a"], "workers") == ()
            (letter,) = await bus.letters("tasks.a")
            assert f"claimed {MAX_DELIVERIES} times" in letter.reason
            assert letter.message.deliveries == MAX_DELIVERIES
            await bus.settle(claims[-1], requeue_after_s=0)
            assert await bus.claim(["tasks.a"], "workers") == ()
            assert await bus.depth(["tasks.a"]) == 0

    async def test_what_is_given_back_does_not_count(self) -> None:
        clock = FakeClock()
        async with self.open(clock) as bus:
            await bus.publish(message("m"))
            for n in range(3 * MAX_DELIVERIES):
                (claim,) = await bus.claim(["tasks.a"], "workers")
                assert claim.message.deliveries == n + 1
                await bus.settle(claim, requeue_after_s=0)
            for _ in range(MAX_DELIVERIES - 1):
                assert len(await bus.claim(["tasks.a"], "workers")) == 1
                await clock.advance(HIDE_S)
            (claim,) = await bus.claim(["tasks.a"], "workers")
            await bus.settle(claim)
            assert await bus.letters("tasks.a") == ()

    async def test_a_stale_claim_kills_nothing(self) -> None:
        clock = FakeClock()
        async with self.open(clock) as bus:
            await bus.publish(message("m"))
            (stale,) = await bus.claim(["tasks.a"], "workers")
            await clock.advance(HIDE_S)
            (claim,) = await bus.claim(["tasks.a"], "workers")
            await bus.settle(stale, dead="late")
            assert await bus.letters("tasks.a") == ()
            await bus.settle(claim)
            await bus.settle(claim, dead="settled already")
            assert await bus.letters("tasks.a") == ()

    @pytest.mark.parametrize("topic", ["tasks.a", "news"])
    async def test_a_revived_letter_is_as_new(self, topic: str) -> None:
        clock = FakeClock()
        async with self.open(clock) as bus:
            await bus.publish(message("m", topic, n=1))
            await _killed(bus, topic, ["m"])
            await clock.advance(1_000)
            await bus.publish(message("n", topic))
            (letter,) = await bus.letters(topic)
            assert await bus.revive(letter) is True
            assert await bus.revive(letter) is False
            assert await bus.letters(topic) == ()
            assert await bus.depth([topic]) == 2
            assert await bus.publish(message("m", topic)) == 0, "it is unsettled again"
            claims = await bus.claim([topic], "workers", 9)
            assert sorted(c.message.id for c in claims) == ["m", "n"]
            (again,) = (c for c in claims if c.message.id == "m")
            assert (again.message.deliveries, again.message.body) == (1, {"n": 1})
            assert again.message.seq == letter.message.seq
            await clock.advance(HIDE_S)
            assert len(await bus.claim([topic], "workers", 9)) == 2, "lapses are counted from the beginning"
            await bus.settle(again, dead="stale")
            assert await bus.letters(topic) == ()

    async def test_the_id_of_a_dead_letter_is_free(self) -> None:
        async with self.open(FakeClock()) as bus:
            await bus.publish(message("m", n=1))
            await _killed(bus, "tasks.a", ["m"])
            assert await bus.publish(message("m", n=2)) == 1
            (letter,) = await bus.letters("tasks.a")
            assert await bus.revive(letter)
            claims = await bus.claim(["tasks.a"], "workers", 9)
            assert sorted(c.message.body["n"] for c in claims) == [1, 2]

    async def test_letters_come_in_order_and_page_by_page(self) -> None:
        async with self.open(FakeClock()) as bus:
            names = [f"m{n}" for n in range(7)]
            await bus.publish(*(message(name, "news") for name in names))
            await _killed(bus, "news", reversed_pairs(names))
            letters = await bus.letters("news")
            assert [x.message.id for x in letters] == names
            assert await bus.letters("news", letters[1].message.seq, 3) == letters[2:5]
            assert await bus.letters("news", letters[-1].message.seq) == ()
            assert await bus.letters("news", limit=0) == ()

    async def test_a_letter_is_its_groups_alone(self) -> None:
        async with self.open(FakeClock()) as bus:
            assert await bus.claim(["news"], "one") == await bus.claim(["news"], "two") == ()
            await bus.publish(message("m", "news"))
            (claim,) = await bus.claim(["news"], "one")
            await bus.settle(claim, dead="one cannot")
            (claim,) = await bus.claim(["news"], "two")
            await bus.settle(claim)
            (letter,) = await bus.letters("news")
            assert letter.group == "one"
            assert await bus.revive(letter)
            assert await bus.claim(["news"], "two") == ()
            assert len(await bus.claim(["news"], "one")) == 1

    async def test_a_letter_is_there_for_every_topic_with_one(self) -> None:
        async with self.open(FakeClock()) as bus:
            await bus.publish(message("m", "orders"))
            await _killed(bus, "orders", ["m"])
            assert await bus.topics() == ("orders",)


def reversed_pairs(names: Sequence[str]) -> list[str]:
    """The names in an order of its own."""
    return [*names[1::2], *names[::2]]


async def _killed(bus: Bus, topic: str, names: Sequence[str]) -> None:
    """Makes the messages dead letters, in this order."""
    claims = {c.message.id: c for c in await bus.claim([topic], "workers", len(names))}
    for name in names:
        await bus.settle(claims[name], dead="no")
