"""Firing: several processes look at once, die anywhere, are slow or wrong about the time; each due time has one run."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collegium.app import Stores
from collegium.domain.errors import NotFound, UnknownName
from collegium.domain.goal import Goal
from collegium.domain.record import Condition, Record
from collegium.domain.schedule import run_key
from collegium.ports import Records
from collegium.runtime.schedules import KIND, TENANT
from collegium.testing.clock import FakeClock
from collegium.testing.harness import memory_stores, own_bus, team
from tests.unit.runtime.hosts import MINUTE, MODEL, START, Host, host, stores_of


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(START)


@pytest.fixture(params=["memory", "sqlite", "postgres"])
async def stores(request: pytest.FixtureRequest, clock: FakeClock, tmp_path: Path) -> AsyncIterator[Stores]:
    async with stores_of(request.param, clock, tmp_path, lambda: request.getfixturevalue("postgres_url")) as opened:
        yield opened


@pytest.fixture(name="one")
async def _one(stores: Stores, clock: FakeClock) -> AsyncIterator[Host]:
    async with host(stores, clock) as opened:
        yield opened


async def test_two_hosts_that_look_at_once_make_one_run(stores: Stores, clock: FakeClock):
    async with host(stores, clock) as one, host(stores, clock) as two:
        added = [await one.schedules.add("* * * * *", f"Goal {n}", overlap="allow") for n in range(5)]
        for minute in range(3):
            await clock.advance(60)
            await asyncio.gather(one.firer.sweep(), two.firer.sweep(), one.firer.sweep())
            assert len(await one.runs()) == 5 * (minute + 1)
        for schedule in added:
            assert await one.outcomes(schedule) == ["submitted"] * 3


async def test_a_clock_that_is_ahead_fires_early_and_not_twice(stores: Stores, clock: FakeClock):
    fast = FakeClock(clock.now() + timedelta(minutes=2))
    async with host(stores, clock) as one, host(stores, fast) as two:
        added = await one.schedules.add("*/5 * * * *", "Goal", overlap="allow")
        await two.firer.sweep()
        (early,) = await one.runs()
        assert (await one.schedules.get(added.id)).next_at == datetime(2026, 1, 1, 12, 5, tzinfo=UTC)
        await one.at(60)
        assert await one.runs() == [early]
        # Paused and resumed by the slow clock, the same time comes again: it is the same run.
        slow = FakeClock(datetime(2026, 1, 1, 11, 58, tzinfo=UTC))
        async with host(stores, slow) as three:
            await three.schedules.pause(added.id)
            resumed = await three.schedules.resume(added.id)
            assert resumed.next_at == datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
            await one.firer.sweep()
        assert await one.runs() == [early]


async def test_what_one_worker_could_not_do_and_another_could_is_put_right(stores: Stores, clock: FakeClock):
    """One has no key for the model, the other has; both are at the same due time."""
    reached, go = asyncio.Event(), asyncio.Event()

    async def slow(goal: Goal, tenant: str, key: str) -> str:
        reached.set()
        await go.wait()
        return await one.acceptance.accept(goal, tenant, key)

    async def failing(goal: Goal, tenant: str, key: str) -> str:
        raise UnknownName("no key here")

    async with host(stores, clock, slow) as one, host(stores, clock, failing) as two:
        added = await one.schedules.add("0 12 * * *", "Goal")
        await clock.advance(30)
        first = asyncio.create_task(one.firer.sweep())
        await reached.wait()
        await two.firer.sweep()
        assert await two.outcomes(added) == ["failed"]
        go.set()
        await first
        found = await one.schedules.get(added.id)
        assert ([f.outcome for f in found.firings], found.failures) == (["submitted"], 0)
        assert [found.last_run] == await one.runs()


async def test_removed_while_it_fires_it_is_gone(stores: Stores, clock: FakeClock):
    async def accept(goal: Goal, tenant: str, key: str) -> str:
        await one.schedules.remove(added.id)
        return await one.acceptance.accept(goal, tenant, key)

    async with host(stores, clock, accept) as one:
        added = await one.schedules.add("0 12 * * *", "Goal")
        await one.at(30)
        await one.at(86_400)
        assert len(await one.runs()) == 1
        assert await one.schedules.all() == ()
        with pytest.raises(NotFound):
            await one.schedules.get(added.id)


async def test_paused_while_it_fires_it_stays_paused(stores: Stores, clock: FakeClock):
    async def accept(goal: Goal, tenant: str, key: str) -> str:
        await one.schedules.pause(added.id)
        return await one.acceptance.accept(goal, tenant, key)

    async with host(stores, clock, accept) as one:
        added = await one.schedules.add("0 12 * * *", "Goal")
        await one.at(30)
        await one.at(3 * 86_400)
        assert len(await one.runs()) == 1
        found = await one.schedules.get(added.id)
        assert (found.paused, found.due_us, [f.outcome for f in found.firings]) == ("by hand", None, ["submitted"])


async def test_paused_while_a_worker_looks_it_does_not_fire(one: Host):
    added = await one.schedules.add("0 12 * * *", "Goal")
    await one.clock.advance(30)
    (seen,) = await one.schedules.due(one.clock.now())
    await one.schedules.pause(added.id)
    late = StaleRecords(one.app.stores.records, seen)
    async with team(MODEL, stores=_over(one.app.stores, late), clock=one.clock, scope="none") as app:
        await Host(app, one.clock, late).firer.sweep()
    assert await one.runs() == []
    assert (await one.schedules.get(added.id)).paused == "by hand"


async def test_a_schedule_of_a_newer_version_is_left_alone(one: Host):
    added = await one.schedules.add("@hourly", "Goal")
    record = await one.app.stores.records.get(KIND, TENANT, added.id)
    assert record is not None
    newer = {**record.value, "missed": "newest"}
    await one.app.stores.records.put(Record(kind=KIND, tenant=TENANT, key=added.id, value=newer))
    other = await one.schedules.add("@hourly", "Other")
    await one.at(30)
    assert await one.outcomes(other) == ["submitted"]
    left = await one.app.stores.records.get(KIND, TENANT, added.id)
    assert left is not None
    assert left.value == newer


async def test_a_fault_is_told_and_others_fire(stores: Stores, clock: FakeClock):
    async def accept(goal: Goal, tenant: str, key: str) -> str:
        if goal.text == "Bad":
            raise RuntimeError("a fault")
        return await one.acceptance.accept(goal, tenant, key)

    async with host(stores, clock, accept) as one:
        bad, good = await one.schedules.add("@hourly", "Bad"), await one.schedules.add("@hourly", "Good")
        await one.at(30)
        assert (await one.outcomes(bad), await one.outcomes(good)) == (["failed"], ["submitted"])
        assert (await one.schedules.get(bad.id)).firings[0].reason == "internal error: RuntimeError: a fault"


class Crash(BaseException):
    """The process is gone."""


class Fuse:
    """Ends a process at a moment of its life, before or after the n-th thing that it does; until then it may be slow.

    ``pauses``: for how many turns of the loop it rests before each thing that it does, over and over.
    """

    def __init__(self, pauses: Sequence[int] = ()) -> None:
        self.left: int | None = None
        self._pauses = itertools.cycle(pauses or (1,))

    async def rest(self) -> None:
        for _ in range(next(self._pauses)):
            await asyncio.sleep(0)

    def burn(self) -> None:
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise Crash


class FusedRecords:
    """``Records`` that may be the last thing that a process does, before or after it took place."""

    def __init__(self, inner: Records, fuse: Fuse) -> None:
        self._inner = inner
        self._fuse = fuse

    async def get(self, kind: str, tenant: str, key: str) -> Record | None:
        return await self._fused(lambda: self._inner.get(kind, tenant, key))

    async def put(self, record: Record, *, expected: int | None = None) -> Record:
        return await self._fused(lambda: self._inner.put(record, expected=expected))

    async def delete(self, kind: str, tenant: str, key: str, *, expected: int | None = None) -> bool:
        return await self._fused(lambda: self._inner.delete(kind, tenant, key, expected=expected))

    async def find(
        self, kind: str, tenant: str, conditions: Sequence[Condition] = (), *, after: str = "", limit: int = 100
    ) -> tuple[Record, ...]:
        return await self._fused(lambda: self._inner.find(kind, tenant, conditions, after=after, limit=limit))

    async def _fused(self, act: Callable[[], Any]) -> Any:
        self._fuse.burn()
        await self._fuse.rest()
        result = await act()
        self._fuse.burn()
        return result


class StaleRecords(FusedRecords):
    """``Records`` in which what is due was looked up long ago."""

    def __init__(self, inner: Records, seen: Record) -> None:
        super().__init__(inner, Fuse())
        self._seen = seen

    async def find(
        self, kind: str, tenant: str, conditions: Sequence[Condition] = (), *, after: str = "", limit: int = 100
    ) -> tuple[Record, ...]:
        return (self._seen,) if kind == KIND and after < self._seen.key else ()


LIVES = st.tuples(st.none() | st.integers(0, 40), st.lists(st.integers(0, 9), max_size=5))


@given(
    st.lists(st.tuples(st.integers(0, 200), LIVES, LIVES), max_size=8),
    st.sampled_from([("skip", "skip"), ("skip", "allow"), ("once", "skip"), ("once", "allow"), ("all", "allow")]),
)
async def test_whoever_dies_each_due_time_has_one_run(
    life: list[tuple[int, tuple[int | None, list[int]], tuple[int | None, list[int]]]], policies: tuple[Any, Any]
):
    """Two processes look at the same moments; each may die anywhere, and another one takes its place."""
    missed, overlap = policies
    clock = FakeClock(datetime(2026, 1, 1, 11, 59, 30, tzinfo=UTC))
    shared = memory_stores(clock)

    async def sweep(fuse_at: int | None, pauses: list[int]) -> None:
        fuse = Fuse(pauses)
        records = FusedRecords(shared.records, fuse)
        async with team(MODEL, stores=_over(shared, records), clock=clock, scope="none") as app:
            process = Host(app, clock, records)
            fuse.left = fuse_at
            try:
                await process.firer.sweep()
            except Crash:
                pass
            finally:
                fuse.left = None

    async with host(shared, clock) as one:
        added = await one.schedules.add("* * * * *", "Goal", missed=missed, overlap=overlap)
        for seconds, first, second in life:
            await clock.advance(seconds)
            await asyncio.gather(sweep(*first), sweep(*second))
        await one.firer.sweep()
        await one.firer.sweep()
        found, runs = await one.schedules.get(added.id), await one.runs()
        assert found.taken_at is None
        assert found.next_at > clock.now()
        submitted = {f.due_at: f.run for f in found.firings if f.outcome == "submitted"}
        assert set(submitted.values()) == set(runs), "each run is known, none was made twice"
        assert len(runs) == len(submitted)
        for due_at, run in submitted.items():
            key = await shared.records.get("idempotency", "default", run_key(added.id, due_at))
            assert key is not None
            assert key.value["run"] == run
        dues = [f.due_at for f in found.firings]
        assert dues == sorted(set(dues)), "each due time is told of once"
        if overlap == "skip":
            assert len(runs) <= 1
        if missed == "all":
            passed = added.next_at + MINUTE * len(runs)
            assert passed == found.next_at, "none was left out"


def _over(stores: Stores, records: Records) -> Stores:
    return replace(own_bus(stores), records=records)
