"""What every ``Presence`` does: it tells the dead from the living, and the living how long they may act."""

from __future__ import annotations

import asyncio
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from collegium.ports import Presence
from collegium.testing.clock import FakeClock

LEASE_S = 0.25
"""A lease short enough to wait for in real time: beats may come from a thread."""
PATIENCE_S = 20.0


@pytest.mark.asyncio
class PresenceConformance(ABC):
    """Subclass it as ``Test...`` and implement ``processes``."""

    @abstractmethod
    def processes(self, clock: FakeClock) -> AbstractContextManager[Callable[[], Presence]]:
        """Makes the presence of one process more among those that share a store, with ``LEASE_S`` and ``clock``."""

    async def test_a_worker_that_was_announced_lives_and_one_that_withdrew_is_forgotten(self) -> None:
        with self.processes(FakeClock()) as process:
            one, two = process(), process()
            await one.announce("wrk_1")
            assert await two.dead() == ()
            await one.withdraw("wrk_1")
            await one.withdraw("wrk_1")
            assert await two.dead() == ()

    async def test_an_abandoned_worker_is_dead_until_somebody_withdraws_it(self) -> None:
        with self.processes(FakeClock()) as process:
            one, two, three = process(), process(), process()
            for worker in ("wrk_2", "wrk_1"):
                await one.announce(worker)
                await one.abandon(worker)
            assert await two.dead() == await three.dead() == ("wrk_1", "wrk_2")
            await two.withdraw("wrk_1")
            await two.withdraw("wrk_2")
            assert await three.dead() == ()

    async def test_who_ticks_is_never_dead(self) -> None:
        clock = FakeClock()
        with self.processes(clock) as process:
            one, two = process(), process()
            await one.announce("wrk_1")
            for _ in range(10):
                assert await two.dead() == ()
                await clock.advance(LEASE_S / 2)
                await _beaten(one)
            await one.withdraw("wrk_1")

    async def test_who_does_not_tick_is_dead_after_a_lease_of_the_observers_time(self) -> None:
        clock = FakeClock()
        with self.processes(clock) as process:
            one, two = process(), process()
            await one.announce("wrk_1")
            await _stand_still(clock)
            assert await two.dead() == ()
            await clock.advance(LEASE_S / 2)
            assert await two.dead() == ()
            await clock.advance(LEASE_S / 2)
            assert await two.dead() == ("wrk_1",)
            assert await one.dead() == (), "nobody judges itself"
            await one.withdraw("wrk_1")

    async def test_who_goes_on_lives_again_though_it_was_withdrawn(self) -> None:
        """Else the attempts it starts from then on would never be found, should it die."""
        clock = FakeClock()
        with self.processes(clock) as process:
            one, two = process(), process()
            await one.announce("wrk_1")
            await _stand_still(clock)
            await _judge(two, clock, dead=("wrk_1",))
            await two.withdraw("wrk_1")
            await _beaten(one)
            assert await two.dead() == ()
            await _stand_still(clock)
            await _judge(two, clock, dead=("wrk_1",))
            await one.abandon("wrk_1")
            assert await two.dead() == ("wrk_1",)

    async def test_who_ends_after_it_only_seemed_dead_stays_known_until_it_is_asked_after_again(self) -> None:
        """Between the question and the withdrawal it may have started attempts: these must be found."""
        clock = FakeClock()
        with self.processes(clock) as process:
            one, two, three = process(), process(), process()
            await one.announce("wrk_1")
            await _stand_still(clock)
            await _judge(two, clock, dead=("wrk_1",))
            await one.abandon("wrk_1")
            await two.withdraw("wrk_1")
            assert await three.dead() == await two.dead() == ("wrk_1",)
            await two.withdraw("wrk_1")
            assert await three.dead() == ()

    async def test_it_says_whether_a_worker_lives_stands_still_or_has_ended(self) -> None:
        clock = FakeClock()
        with self.processes(clock) as process:
            one, two = process(), process()
            await one.announce("wrk_1")
            assert await two.dead() == ()
            assert two.silence("wrk_1") == 0
            assert one.silence("wrk_1") == 0
            assert two.silence("wrk_2") is None
            await _stand_still(clock)
            await _judge(two, clock, dead=("wrk_1",))
            seen = two.silence("wrk_1")
            assert seen is not None
            assert 1 <= seen < math.inf
            await clock.advance(LEASE_S / 2)
            await two.dead()
            assert two.silence("wrk_1") == seen + 0.5
            await _beaten(one)
            await two.dead()
            assert two.silence("wrk_1") == 0
            await one.abandon("wrk_1")
            await two.dead()
            assert two.silence("wrk_1") == math.inf
            await two.withdraw("wrk_1")
            await two.dead()
            assert two.silence("wrk_1") is None

    async def test_an_observer_that_was_stopped_itself_has_seen_nothing(self) -> None:
        clock = FakeClock()
        with self.processes(clock) as process:
            one, two = process(), process()
            await one.announce("wrk_1")
            assert await two.dead() == ()
            await clock.advance(1_000 * LEASE_S)
            assert await two.dead() == ()
            await one.withdraw("wrk_1")

    async def test_calls_may_start_for_half_a_lease_after_a_beat(self) -> None:
        clock = FakeClock()
        with self.processes(clock) as process:
            one = process()
            await one.announce("wrk_1")
            assert 0 < one.fresh_s() <= LEASE_S / 2
            assert one.gaps() == 0
            await _stand_still(clock)
            assert one.fresh_s() <= 0
            await _beaten(one)
            assert 0 < one.fresh_s() <= LEASE_S / 2
            assert one.gaps() == 1
            await clock.advance(LEASE_S / 4)
            await _beaten(one)
            assert one.gaps() == 1
            await one.withdraw("wrk_1")

    async def test_ticks_are_wanted_several_times_a_lease(self) -> None:
        with self.processes(FakeClock()) as process:
            assert 0 < process().tick() <= LEASE_S / 2


async def _beaten(presence: Presence) -> None:
    """Ticks until a beat has been made at the present time."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            presence.tick()
            if presence.fresh_s() >= LEASE_S / 2:
                return
            await asyncio.sleep(LEASE_S / 20)


async def _stand_still(clock: FakeClock) -> None:
    """Lets so much time pass without a tick that no beat comes any more."""
    await clock.advance(LEASE_S)


async def _judge(presence: Presence, clock: FakeClock, *, dead: tuple[str, ...]) -> None:
    await presence.dead()
    await clock.advance(LEASE_S / 2)
    await presence.dead()
    await clock.advance(LEASE_S / 2)
    assert await presence.dead() == dead
