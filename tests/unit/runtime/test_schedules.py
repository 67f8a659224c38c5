"""Schedules: each due time once, whoever fires it and whoever dies; policies for missed times and long runs."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collegium.adapters.memory.bus import MemoryBus
from collegium.adapters.presence import MemoryPresence
from collegium.adapters.sqlite.store import open_store
from collegium.app import Collegium, Stores
from collegium.domain.document import GivenFile
from collegium.domain.errors import NotFound, StoreUnavailable, UnknownName, UsageError
from collegium.domain.goal import Goal
from collegium.domain.head import HeadQuery
from collegium.domain.ids import Ids
from collegium.domain.record import Condition, Record
from collegium.domain.schedule import MAX_FAILURES, MAX_FIRINGS, MAX_MISSED, Schedule, run_key, schedule_of
from collegium.ports import Records
from collegium.runtime.acceptance import Acceptance
from collegium.runtime.firing import Accept, Firer
from collegium.runtime.schedules import KIND, TENANT
from collegium.testing.clock import FakeClock
from collegium.testing.harness import GivenModels, memory_stores, own_bus, team
from collegium.testing.scripted import ScriptedModel, Step

MINUTE = timedelta(minutes=1)
Opened = AsyncIterator[tuple[Collegium, Firer, FakeClock]]


class Host:
    """A process without a worker: it adds schedules and fires them, and its runs stay as they are."""

    def __init__(self, app: Collegium, clock: FakeClock, records: Records, accept: Accept | None = None) -> None:
        self.app = app
        self.schedules = app.schedules
        self.clock = clock
        acceptance = Acceptance(
            records, ids=Ids(lambda: 1), pins=app.pins, scheduler=app.scheduler, models=GivenModels(MODEL)
        )
        self.acceptance = acceptance
        self.firer = Firer(app.schedules, accept or acceptance.accept, journal=app.stores.journal, clock=clock)

    async def at(self, seconds: float) -> None:
        """Lets time pass, then looks at what is due."""
        await self.clock.advance(seconds)
        await self.firer.sweep()

    async def runs(self) -> list[str]:
        """All runs, oldest first."""
        return [h.run for h in reversed(await self.app.runs(HeadQuery(limit=1_000)))]

    async def outcomes(self, schedule: Schedule) -> list[str]:
        """What became of the last due times."""
        return [f.outcome for f in (await self.schedules.get(schedule.id)).firings]


MODEL = ScriptedModel([Step(reply="Done.")])


@asynccontextmanager
async def host(stores: Stores, clock: FakeClock, accept: Accept | None = None) -> AsyncIterator[Host]:
    async with team(MODEL, stores=own_bus(stores), clock=clock, scope="none") as app:
        yield Host(app, clock, stores.records, accept)


@pytest.fixture(params=["memory", "sqlite", "postgres"])
async def stores(request: pytest.FixtureRequest, clock: FakeClock, tmp_path: Path) -> AsyncIterator[Stores]:
    if request.param == "memory":
        yield memory_stores(clock)
        return
    opened: Any
    if request.param == "sqlite":
        opened = open_store(tmp_path / "store.db", clock=clock)
    else:
        from collegium.adapters.postgres.store import open_store as open_postgres

        opened = await open_postgres(request.getfixturevalue("postgres_url"), clock=clock)
    yield Stores(
        journal=opened.journal,
        bus=MemoryBus(clock),
        records=opened.records,
        blobs=opened.blobs,
        presence=MemoryPresence(),
        archive=getattr(opened, "archive", None),
    )
    await opened.aclose()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(datetime(2026, 1, 1, 11, 59, 30, tzinfo=UTC))


@pytest.fixture(name="one")
async def _one(stores: Stores, clock: FakeClock) -> AsyncIterator[Host]:
    async with host(stores, clock) as opened:
        yield opened


async def end(h: Host, run: str) -> None:
    """Ends a run that nobody works on."""
    await h.app.cancel(run)
    assert (await h.app.state(run)).finished is not None


async def test_a_goal_comes_at_its_time_and_says_who_asked(one: Host):
    added = await one.schedules.add("*/10 * * * *", " What is new? ", name="news", principal="ada", priority=1)
    assert added.next_at == datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
    await one.at(29)
    assert await one.runs() == []
    await one.at(1)
    await one.at(1)
    (run,) = await one.runs()
    state = await one.app.state(run)
    assert (state.goal.text, state.goal.priority) == ("What is new?", 1)
    assert schedule_of(state.goal.principal) == added.id
    found = await one.schedules.get(added.id)
    (firing,) = found.firings
    assert (firing.outcome, firing.due_at, firing.run) == ("submitted", added.next_at, run)
    assert found.next_at == added.next_at + 10 * MINUTE
    key = await one.app.stores.records.get("idempotency", "default", f"schedule/{added.id}/2026-01-01T12:00:00Z")
    assert key is not None
    assert key.value["run"] == run


async def test_its_files_are_those_of_the_moment_it_was_added(one: Host, tmp_path: Path):
    (tmp_path / "a.md").write_text("first")
    added = await one.schedules.add(
        "@hourly", "Read it.", files=[str(tmp_path / "a.md"), GivenFile(path="b.md", data=b"given")]
    )
    (tmp_path / "a.md").unlink()
    archive, blobs, later = one.app.stores.archive, one.app.stores.blobs, one.clock.now() + timedelta(days=30)
    if archive is not None:
        assert await archive.collect(before=later) == 0
    await one.at(30)
    (run,) = await one.runs()
    files = {f.path: await blobs.get("default", f.sha256) for f in (await one.app.state(run)).goal.files}
    assert files == {"a.md": b"first", "b.md": b"given"}
    await one.schedules.remove(added.id)
    if archive is not None:
        assert await archive.collect(before=later) == 0, "the run names them"


async def test_files_of_a_schedule_that_is_gone_are_let_go(one: Host):
    added = await one.schedules.add("@hourly", "Read it.", files=[GivenFile(path="b.md", data=b"given")])
    await one.schedules.remove(added.id)
    if one.app.stores.archive is not None:
        assert await one.app.stores.archive.collect(before=one.clock.now() + timedelta(days=30)) == 1


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


async def test_while_its_run_goes_on_no_other_begins(one: Host):
    added = await one.schedules.add("* * * * *", "Goal")
    await one.at(30)
    await one.at(60)
    await one.at(60)
    (run,) = await one.runs()
    found = await one.schedules.get(added.id)
    assert [f.outcome for f in found.firings] == ["submitted", "skipped", "skipped"]
    assert found.firings[-1].reason.startswith(f"{run} is still")
    for _ in range(MAX_FIRINGS):
        await one.at(60)
    assert await one.runs() == [run], "however long ago that was"
    await end(one, run)
    await one.at(60)
    assert len(await one.runs()) == 2


async def test_with_allow_runs_go_on_side_by_side(one: Host):
    await one.schedules.add("* * * * *", "Goal", overlap="allow")
    for _ in range(3):
        await one.at(60)
    assert len(await one.runs()) == 3


@pytest.mark.parametrize(("missed", "waiting"), [("once", 1), ("all", 3)])
async def test_with_queue_the_next_begins_when_the_last_has_ended(one: Host, missed: Any, waiting: int):
    await one.schedules.add("* * * * *", "Goal", overlap="queue", missed=missed)
    for _ in range(4):
        await one.at(60)
    runs = await one.runs()
    assert len(runs) == 1
    for expected in range(2, 2 + waiting):
        await end(one, runs[-1])
        await one.firer.sweep()
        runs = await one.runs()
        assert len(runs) == expected
    await end(one, runs[-1])
    await one.firer.sweep()
    assert len(await one.runs()) == 1 + waiting


@pytest.mark.parametrize(
    ("missed", "overlap", "outcomes"),
    [
        ("skip", "skip", ["missed"]),
        ("once", "skip", ["missed", "submitted"]),
        ("all", "allow", ["submitted"] * 3),
    ],
)
async def test_times_at_which_nobody_was_there(one: Host, missed: Any, overlap: Any, outcomes: list[str]):
    added = await one.schedules.add("0 12 * * *", "Goal", missed=missed, overlap=overlap)
    await one.at(30 + 2 * 86_400 + 3_600)
    await one.at(1)
    found = await one.schedules.get(added.id)
    assert [f.outcome for f in found.firings] == outcomes
    assert len(await one.runs()) == outcomes.count("submitted")
    assert found.next_at == datetime(2026, 1, 4, 12, 0, tzinfo=UTC)
    submitted = [f.due_at.day for f in found.firings if f.outcome == "submitted"]
    assert submitted == {"skip": [], "once": [3], "all": [1, 2, 3]}[missed]
    first = found.firings[0]
    assert first.due_at.day == 1
    assert (first.until is None or first.until.day) == {"skip": 3, "once": 2, "all": True}[missed]


async def test_a_time_just_past_was_not_missed(one: Host):
    added = await one.schedules.add("0 12 * * *", "Goal", missed="skip")
    await one.at(30 + 45)
    assert await one.outcomes(added) == ["submitted"]


async def test_only_so_many_missed_ones_are_made_up_for(one: Host):
    added = await one.schedules.add("*/10 * * * *", "Goal", missed="all", overlap="allow")
    await one.at(7 * 86_400)
    await one.at(0)
    assert len(await one.runs()) == MAX_MISSED
    found = await one.schedules.get(added.id)
    assert found.next_at > one.clock.now()
    dues = [f.due_at for f in found.firings]
    assert dues == sorted(dues)
    assert found.next_at - dues[-1] == 10 * MINUTE


async def test_paused_it_rests_until_it_is_resumed(stores: Stores, clock: FakeClock):
    async with host(stores, clock) as one:
        added = await one.schedules.add("* * * * *", "Goal", overlap="allow")
        assert (await one.schedules.pause(added.id, reason="holidays")).paused == "holidays"
        assert (await one.schedules.pause(added.id)).paused == "holidays"
        await one.at(3_600)
    async with host(stores, clock) as two:
        await two.at(3_600)
        assert await two.runs() == []
        resumed = await two.schedules.resume(added.id)
        assert clock.now() < resumed.next_at <= clock.now() + MINUTE
        assert await two.schedules.resume(added.id) == resumed
        await two.at(60)
        assert len(await two.runs()) == 1
        assert await two.outcomes(added) == ["submitted"], "what passed while it was paused is let go"


async def test_failures_are_told_and_too_many_pause_it(stores: Stores, clock: FakeClock):
    is_gone = True

    async def accept(goal: Goal, tenant: str, key: str) -> str:
        if is_gone:
            raise UnknownName("there is no model 'gone:x'", name="gone:x")
        return await one.acceptance.accept(goal, tenant, key)

    async with host(stores, clock, accept) as one:
        added = await one.schedules.add("* * * * *", "Goal")
        for n in range(1, MAX_FAILURES):
            await one.at(60)
            assert (await one.schedules.get(added.id)).failures == n
        is_gone = False
        await one.at(60)
        assert (await one.schedules.get(added.id)).failures == 0
        is_gone = True
        await end(one, (await one.runs())[0])
        for _ in range(MAX_FAILURES):
            await one.at(60)
        found = await one.schedules.get(added.id)
        assert found.paused is not None
        assert "10 times in a row" in found.paused
        assert "no model 'gone:x'" in found.paused
        await one.at(600)
        assert await one.schedules.get(added.id) == found
        is_gone = False
        await one.schedules.resume(added.id)
        await one.at(60)
        assert len(await one.runs()) == 2


async def test_a_store_that_is_away_says_nothing_about_a_schedule(stores: Stores, clock: FakeClock):
    is_away = True

    async def accept(goal: Goal, tenant: str, key: str) -> str:
        if is_away:
            raise StoreUnavailable("away")
        return await one.acceptance.accept(goal, tenant, key)

    async with host(stores, clock, accept) as one:
        added = await one.schedules.add("0 12 * * *", "Goal", missed="skip")
        with pytest.raises(StoreUnavailable):
            await one.at(30)
        is_away = False
        await one.at(300)
        assert await one.outcomes(added) == ["submitted"], "it was taken in time"


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


async def test_jitter_puts_each_time_off_alike_everywhere(one: Host):
    added = await one.schedules.add("0 * * * *", "Goal", jitter_s=600, overlap="allow")
    again = await one.schedules.get(added.id)
    put_off = timedelta(microseconds=(again.due_us or 0)) + datetime(1970, 1, 1, tzinfo=UTC) - again.next_at
    assert timedelta(0) < put_off < timedelta(minutes=10)
    await one.at(30 + put_off.total_seconds() - 1)
    assert await one.runs() == []
    await one.at(1)
    assert len(await one.runs()) == 1
    for _ in range(24):
        await one.at(3_600)
    assert len({f.due_at for f in (await one.schedules.get(added.id)).firings}) == MAX_FIRINGS
    assert {f.due_at.minute for f in (await one.schedules.get(added.id)).firings} == {0}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"cron": "61 * * * *"}, "the minute '61'"),
        ({"tz": "Berlin"}, "Europe/Berlin"),
        ({"goal": "  "}, "the goal is empty"),
        ({"missed": "all"}, "overlap=queue"),
        ({"jitter_s": 3_600.0}, "less than the 3600 s"),
        ({"jitter_s": -1.0}, "at least 0"),
        ({"jitter_s": float("nan")}, "the jitter of nan"),
        ({"name": "taken"}, "has the name 'taken' already"),
        ({"name": "x" * 81}, "at most 80"),
        ({"name": "a\x1b[31m"}, "printable"),
        ({"files": ["/nowhere/at/all"]}, "no file or folder"),
    ],
)
async def test_what_cannot_be_added(one: Host, wrong: dict[str, Any], said: str):
    await one.schedules.add("@hourly", "Goal", name="taken")
    given: dict[str, Any] = {"cron": "@hourly", "goal": "Goal", **wrong}
    with pytest.raises(UsageError) as error:
        await one.schedules.add(given.pop("cron"), given.pop("goal"), **given)
    assert said in error.value.message
    assert len(await one.schedules.all()) == 1


async def test_each_tenant_has_its_own(one: Host):
    mine = await one.schedules.add("@hourly", "Mine", name="same")
    theirs = await one.schedules.add("@hourly", "Theirs", name="same", tenant="other")
    assert await one.schedules.all() == (mine,)
    assert await one.schedules.all(tenant="other") == (theirs,)
    for act in (one.schedules.get, one.schedules.pause, one.schedules.resume, one.schedules.remove):
        with pytest.raises(NotFound):
            await act(theirs.id)
    await one.at(30)
    assert sorted(h.tenant for h in await one.app.runs(HeadQuery())) == ["default", "other"]


async def test_more_schedules_than_one_page(one: Host):
    for n in range(120):
        await one.schedules.add("@hourly", f"Goal {n}")
    await one.at(30)
    assert len(await one.runs()) == 120


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


async def test_a_worker_fires_and_works_and_the_others_do_not(clock: FakeClock):
    shared = memory_stores(clock)
    async with AsyncExitStack() as stack:
        apps = [
            await stack.enter_async_context(team(MODEL, stores=shared, clock=clock, scope=s)) for s in ("own", "none")
        ]
        added = await apps[0].schedules.add("* * * * *", "Goal")
        await clock.advance(300)
        assert await apps[0].runs() == ()
        worker = await stack.enter_async_context(team(MODEL, stores=shared, clock=clock, scope="all"))
        await clock.advance(60)
        assert await worker.runs() != ()
        assert (await worker.schedules.get(added.id)).last_run is not None


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
