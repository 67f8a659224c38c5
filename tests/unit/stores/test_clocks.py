"""The real clock and the one that stands still."""

import asyncio
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from collegium.adapters.clock import SystemClock
from collegium.testing.clock import FakeClock


async def test_the_system_clock_goes_on():
    clock = SystemClock()
    before, now = clock.monotonic(), clock.now()
    await clock.sleep(0.01)
    await clock.sleep(-1)
    assert 0.01 <= clock.monotonic() - before < 5
    assert now.tzinfo is UTC
    assert clock.now() > now


class Machine:
    """A machine whose clock is put forth and back while time passes."""

    def __init__(self) -> None:
        self.wall_ns = 1_800_000_000 * 10**9
        self.steady_ns = 5 * 10**9
        self.clock = SystemClock(wall_ns=lambda: self.wall_ns, steady_ns=lambda: self.steady_ns)
        self.began = self.clock.now()

    def passes(self, seconds: float) -> None:
        self.wall_ns += round(seconds * 10**9)
        self.steady_ns += round(seconds * 10**9)

    @property
    def counted_s(self) -> float:
        return (self.clock.now() - self.began).total_seconds()


async def test_the_time_of_day_is_the_machines_as_long_as_that_does_not_jump():
    machine = Machine()
    assert machine.began == datetime.fromtimestamp(1_800_000_000, UTC)
    for seconds in (0, 0.000_001, 5, 86_400, 365 * 86_400):
        machine.passes(seconds)
    assert machine.counted_s == pytest.approx(366 * 86_400 + 5.000_001, abs=1e-6)
    machine.wall_ns += 20_000_000  # the small corrections of time servers are followed, once they are seen
    machine.clock.now()
    machine.passes(1)
    assert machine.counted_s == pytest.approx(366 * 86_400 + 6.000_001, abs=1e-6)
    machine.passes(1)
    assert machine.counted_s == pytest.approx(366 * 86_400 + 7.020_001, abs=1e-6)


@pytest.mark.parametrize("jump_s", [3_600, -3_600])
async def test_a_jump_of_an_hour_is_followed_slowly_and_never_backwards(jump_s: int, caplog: pytest.LogCaptureFixture):
    machine = Machine()
    machine.wall_ns += jump_s * 10**9
    assert machine.counted_s == 0
    times = []
    for _ in range(6_000):
        machine.passes(1)
        times.append(machine.counted_s)
    assert all(0.8999 < later - earlier < 1.1001 for earlier, later in pairwise(times))
    assert times[-1] == pytest.approx(6_000 + (600 if jump_s > 0 else -600), abs=1)
    for _ in range(40_000):
        machine.passes(1)
    assert machine.counted_s == pytest.approx(46_000 + jump_s, abs=0.001)
    assert [m.split(":")[0] for m in caplog.messages] == [
        f"the machine's clock is {jump_s:+} s off from the time this process has counted",
        "the machine's clock and the time of this process are one again",
    ]


async def test_time_that_goes_back_itself_is_stood_still_for():
    machine = Machine()
    machine.passes(10)
    before = machine.clock.now()
    machine.steady_ns -= 3 * 10**9
    assert machine.clock.now() == before
    assert machine.clock.now_ms() == int(before.timestamp() * 1_000)


async def test_a_fake_clock_moves_both_times_together():
    clock = FakeClock()
    start = clock.now()
    await clock.advance(2.5)
    assert (clock.now() - start, clock.monotonic()) == (timedelta(seconds=2.5), 2.5)


async def test_sleepers_wake_in_the_order_of_their_times():
    clock, woken = FakeClock(), []

    async def sleeper(name: str, *seconds: float) -> None:
        for s in seconds:
            await clock.sleep(s)
            woken.append((name, clock.monotonic()))

    tasks = [asyncio.ensure_future(sleeper("a", 3, 3)), asyncio.ensure_future(sleeper("b", 1, 1, 1))]
    await clock.advance(2.5)
    assert woken == [("b", 1), ("b", 2)]
    await clock.advance(0.5)
    assert woken[2:] == [("a", 3), ("b", 3)]
    await clock.advance(10)
    assert woken[4:] == [("a", 6)]
    assert all(task.done() for task in tasks)


async def test_a_cancelled_sleeper_is_forgotten():
    clock = FakeClock()
    task = asyncio.ensure_future(clock.sleep(1))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await clock.advance(2)
    await clock.sleep(0)
    assert clock.monotonic() == 2
