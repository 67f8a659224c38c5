"""Schedules: each due time once, whoever fires it and whoever dies; policies for missed times and long runs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from collegium.app import Stores
from collegium.domain.document import GivenFile
from collegium.domain.errors import NotFound, StoreUnavailable, UnknownName, UsageError
from collegium.domain.goal import Goal
from collegium.domain.head import HeadQuery
from collegium.domain.schedule import MAX_FAILURES, MAX_FIRINGS, MAX_MISSED, schedule_of
from collegium.testing.clock import FakeClock
from collegium.testing.harness import memory_stores, team
from tests.unit.runtime.hosts import MINUTE, MODEL, START, Host, end, host, stores_of


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
