"""Stores that move: everything that is kept, byte by byte, from SQLite to PostgreSQL and back, interrupted or not."""

from __future__ import annotations

import asyncio
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from collegium.adapters.clock import SystemClock
from collegium.adapters.postgres.presence import PostgresPresence
from collegium.adapters.presence import FilePresence
from collegium.adapters.tools.workspace import FolderWorkspaces
from collegium.adapters.transfer import COUNTED
from collegium.config import Settings
from collegium.domain.errors import Conflict, StoreUnavailable, UsageError
from collegium.domain.head import HeadQuery
from collegium.domain.record import Record
from collegium.runtime.accounts import is_account
from collegium.runtime.audit import verify_all
from collegium.runtime.retention import Retained, Retention
from collegium.testing.clock import FakeClock
from collegium.testing.harness import team
from collegium.wiring import transfer as wiring
from tests.unit.stores.moved import (
    KEY,
    PLAN,
    Filled,
    damaged,
    fill,
    kept,
    kill_one,
    meta_of,
    move,
    opened,
    run_once,
    working,
)


@pytest.fixture
async def made(tmp_path: Path) -> Filled:
    path = tmp_path / "source" / "store.db"
    found = await fill(f"sqlite:///{path}", tmp_path)
    await kill_one(found, path)
    return found


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "key").write_bytes(KEY)
    return Settings.model_validate(
        {
            "data_dir": str(tmp_path / "data"),
            "journal": {"chain_key_file": str(tmp_path / "key")},
            "worker": {"lease_s": 2.0},
        }
    )


async def test_everything_goes_over_and_comes_back(made: Filled, settings: Settings, postgres_url: str, tmp_path: Path):
    source = Path(made.url.removeprefix("sqlite:///"))
    before = await asyncio.to_thread(source.read_bytes)
    there = await move(settings, made.url, postgres_url)
    assert await asyncio.to_thread(source.read_bytes) == before
    original = await kept(made.url)
    assert there.counts == {t.name: len(original[t.name]) for t in COUNTED}
    assert all(there.counts.values())
    assert any(is_account(head[0]) for head in original["heads"])
    assert (there.moved.runs, there.damaged, len(there.left)) == (there.counts["heads"], None, 1)
    assert await kept(postgres_url) == original
    assert await damaged(postgres_url) == []
    back = f"sqlite:///{tmp_path / 'back' / 'store.db'}"
    again = await move(settings, postgres_url, back)
    assert again.counts == there.counts
    assert await kept(back) == original
    assert await damaged(back) == []
    assert (await move(settings, postgres_url, back)).was_done
    # It is the same store, of which each move makes a new epoch: it shares nothing in Redis with what it was.
    metas = [await meta_of(url) for url in (made.url, postgres_url, back)]
    assert [meta["store_id"] for meta in metas] == [metas[0]["store_id"]] * 3
    assert [int(meta["epoch"]) for meta in metas] == [1, 2, 3]


@pytest.mark.parametrize("to", ["sqlite", "postgres"])
async def test_open_runs_go_on_in_the_target(
    made: Filled, settings: Settings, to: str, tmp_path: Path, request: pytest.FixtureRequest
):
    url = f"sqlite:///{tmp_path / 'new' / 'store.db'}" if to == "sqlite" else request.getfixturevalue("postgres_url")
    await move(settings, made.url, url)
    presence: FilePresence | PostgresPresence = FilePresence(settings.data_dir / "workers", lease_s=2.0)
    if to == "postgres":
        presence = PostgresPresence(url, lease_s=2.0)
    async with opened(url, presence) as stores, team(working(), stores=stores, scope="all") as app:
        of_project = HeadQuery(tenant="other", projects=frozenset({"p"}))
        assert [head.run for head in await stores.journal.heads(of_project)] == [made.waiting]
        (question,) = await app.approvals(tenant="other")
        answered = await app.answer(question.approval.id, "approve", tenant="other")
        assert answered.id == made.waiting
        assert (await asyncio.wait_for(answered.result(), 20)).status == "succeeded"
        # The worker that was killed is not known here: it counts as dead.
        assert (await asyncio.wait_for(app.run(made.hanging).result(), 20)).status == "succeeded"
        new = await app.submit("Do both, anew.", plan=PLAN)
        assert (await asyncio.wait_for(new.result(), 20)).status == "succeeded"
        assert await presence.dead() == ()
        assert stores.archive is not None
        # What came is signed once more, in the target's own order, and what is new as well.
        await stores.archive.checkpoint(at=datetime.now(UTC) + timedelta(minutes=1))
        for tenant in ("default", "other"):
            verified = await verify_all(stores.journal, stores.archive, tenant)
            assert (verified.damaged, verified.open_runs) == ((), 0)


async def test_checkpoints_go_on_where_the_source_has_looked_further_than_the_target_counts(
    settings: Settings, postgres_url: str, tmp_path: Path
):
    """The cursor of a checkpoint counts the source's own places; those of the target begin behind it."""
    url = f"sqlite:///{tmp_path / 'store.db'}"
    async with opened(url) as stores:
        pass
    with sqlite3.connect(tmp_path / "store.db") as connection:
        connection.execute("INSERT INTO sqlite_sequence VALUES ('events', 5000000000)")
    connection.close()
    await fill(url, tmp_path)
    hop = f"sqlite:///{tmp_path / 'hop' / 'store.db'}"
    await move(settings, url, postgres_url)
    await move(settings, postgres_url, hop)
    for target in (postgres_url, hop):
        async with opened(target) as stores, team(working(), stores=stores) as app:
            await run_once(app, "Do both, anew.")
            assert stores.archive is not None
            assert await stores.archive.checkpoint(at=datetime.now(UTC) + timedelta(minutes=1))
            assert (await verify_all(stores.journal, stores.archive, "default")).open_runs == 0
        assert await damaged(target) == []


class Stopped(Exception):
    """The transfer ends here."""


@pytest.mark.parametrize("at", [1, 2, 3, 5, 8, 13])
@pytest.mark.parametrize("to", ["sqlite", "postgres"])
async def test_interrupted_anywhere_it_goes_on(
    made: Filled,
    settings: Settings,
    at: int,
    to: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
):
    url = f"sqlite:///{tmp_path / 'new' / 'store.db'}" if to == "sqlite" else request.getfixturevalue("postgres_url")
    monkeypatch.setattr("collegium.adapters.transfer._BATCH_EVENTS", 5)
    monkeypatch.setattr("collegium.adapters.transfer._BATCH_BYTES", 1)
    calls = 0

    def progress(what: str, done: int, total: int) -> None:
        nonlocal calls
        calls += 1
        if calls == at:
            raise Stopped

    with pytest.raises(Stopped):
        await wiring.transfer(settings, made.url, url, is_dry=False, progress=progress)
    with pytest.raises(StoreUnavailable, match="is not whole"):
        async with opened(url):
            pass
    done = await move(settings, made.url, url)
    assert done.damaged is None
    assert await kept(url) == await kept(made.url)
    assert await damaged(url) == []


async def test_what_the_source_did_in_between_is_caught_up_with(
    made: Filled, settings: Settings, postgres_url: str, tmp_path: Path
):
    def stop(what: str, done: int, total: int) -> None:
        if what == "checkpoints":
            raise Stopped

    with pytest.raises(Stopped):
        await wiring.transfer(settings, made.url, postgres_url, is_dry=False, progress=stop)
    async with opened(made.url) as stores, team(working(), stores=stores) as app:
        await run_once(app, "Do both, meanwhile.")
        (question,) = await app.approvals(tenant="other")
        await app.answer(question.approval.id, "reject", tenant="other")
        (schedule,) = await app.schedules.all()
        await app.schedules.remove(schedule.id)
        retention = Retention(
            stores, FolderWorkspaces(tmp_path / "runs"), clock=FakeClock(datetime.now(UTC) + timedelta(hours=9))
        )
        await retention.prune("default", Retained(keep=1), what="bodies")
        await retention.prune("default", Retained(keep=2))
        assert stores.archive is not None
        await stores.archive.checkpoint(at=datetime.now(UTC) + timedelta(minutes=1))
    done = await move(settings, made.url, postgres_url)
    assert done.moved.removed > 0
    assert await kept(postgres_url) == await kept(made.url)
    assert await damaged(postgres_url) == []


async def test_bodies_that_were_removed_in_between_are_not_kept(
    made: Filled, settings: Settings, postgres_url: str, tmp_path: Path
):
    """Nothing else has changed: no head, no checkpoint."""

    def stop(what: str, done: int, total: int) -> None:
        if what == "checkpoints":
            raise Stopped

    async with opened(made.url) as stores:
        assert stores.archive is not None
        await stores.archive.checkpoint(at=datetime.now(UTC) + timedelta(hours=1))
    with pytest.raises(Stopped):
        await wiring.transfer(settings, made.url, postgres_url, is_dry=False, progress=stop)
    async with opened(made.url) as stores:
        clock = FakeClock(datetime.now(UTC) + timedelta(hours=9))
        retention = Retention(stores, FolderWorkspaces(tmp_path / "runs"), clock=clock)
        pruned = (await retention.prune("default", Retained(keep=0), what="bodies")).runs
    done = await move(settings, made.url, postgres_url)
    assert done.moved.runs == len(pruned) > 0, "what was there already is left alone"
    assert await kept(postgres_url) == await kept(made.url)


async def test_a_store_that_is_worked_on_is_not_moved(made: Filled, settings: Settings, postgres_url: str):
    beside = FilePresence(Path(made.url.removeprefix("sqlite:///")).parent / "workers", lease_s=2.0)
    await beside.announce("wrk_a")
    with pytest.raises(UsageError, match="is being worked on by wrk_a"):
        await move(settings, made.url, postgres_url)
    await beside.withdraw("wrk_a")
    await move(settings, made.url, postgres_url)

    living = PostgresPresence(postgres_url, lease_s=2.0)
    await living.announce("wrk_b")
    ticking = asyncio.create_task(_tick(living))
    try:
        with pytest.raises(UsageError, match="is being worked on by wrk_b"):
            await move(settings, postgres_url, f"sqlite:///{settings.data_dir / 'x.db'}")
    finally:
        ticking.cancel()
        await living.aclose()


async def _tick(presence: PostgresPresence) -> None:
    clock = SystemClock()
    while True:
        await clock.sleep(presence.tick())


async def test_what_is_written_while_it_is_copied_is_told(made: Filled, settings: Settings, tmp_path: Path):
    url = f"sqlite:///{tmp_path / 'new' / 'store.db'}"

    def write(what: str, done: int, total: int) -> None:
        if what == "checkpoints":
            with sqlite3.connect(made.url.removeprefix("sqlite:///")) as connection:
                connection.execute("UPDATE records SET version = version + 1 WHERE kind = 'note'")
            connection.close()

    with pytest.raises(Conflict, match=r"records: note, other, k"):
        await wiring.transfer(settings, made.url, url, is_dry=False, progress=write)
    await move(settings, made.url, url)
    assert await kept(url) == await kept(made.url)


async def test_the_first_bad_run_is_named_and_nothing_can_be_done_with_the_target(
    made: Filled, settings: Settings, tmp_path: Path
):
    with sqlite3.connect(made.url.removeprefix("sqlite:///")) as connection:
        body = "UPDATE events SET body = replace(CAST(body AS TEXT), 'Do', 'No') WHERE run = ? AND seq = 1"
        connection.execute(body, (made.hanging,))
    connection.close()
    url = f"sqlite:///{tmp_path / 'new' / 'store.db'}"
    done = await move(settings, made.url, url)
    assert done.damaged is not None
    assert (done.damaged.run, done.damaged.seq) == (made.hanging, 1)
    with pytest.raises(StoreUnavailable, match="is not whole"):
        async with opened(url):
            pass


async def test_targets_that_hold_something_else(made: Filled, settings: Settings, postgres_url: str, tmp_path: Path):
    with pytest.raises(UsageError, match="are the same store"):
        await move(settings, made.url, made.url)
    other = f"sqlite:///{tmp_path / 'other.db'}"
    async with opened(other) as stores:
        await stores.records.put(Record(kind="note", tenant="t", key="k", value={}))
    for is_dry in (True, False):
        with pytest.raises(UsageError, match="holds 1 records already"):
            await move(settings, made.url, other, is_dry=is_dry)
    new = f"sqlite:///{tmp_path / 'new.db'}"
    await move(settings, made.url, new)
    async with opened(new) as stores:
        await stores.records.put(Record(kind="note", tenant="t", key="k", value={}))
    with pytest.raises(UsageError, match="one of them was worked on since"):
        await move(settings, made.url, new)


async def test_a_target_that_is_half_filled_from_another_store(made: Filled, settings: Settings, tmp_path: Path):
    def stop(what: str, done: int, total: int) -> None:
        raise Stopped

    new, other = f"sqlite:///{tmp_path / 'new.db'}", f"sqlite:///{tmp_path / 'other.db'}"
    with pytest.raises(Stopped):
        await wiring.transfer(settings, made.url, new, is_dry=False, progress=stop)
    async with opened(other):
        pass
    with pytest.raises(UsageError, match="half filled from another store"):
        await move(settings, other, new)
    with pytest.raises(StoreUnavailable, match="is not whole"):
        await move(settings, new, f"sqlite:///{tmp_path / 'third.db'}")
    await move(settings, made.url, new)


async def test_a_dry_run_makes_nothing(made: Filled, settings: Settings, postgres_url: str, tmp_path: Path):
    new = tmp_path / "new" / "store.db"
    for url in (f"sqlite:///{new}", postgres_url):
        planned = await move(settings, made.url, url, is_dry=True)
        assert planned.counts["heads"] > 5
        assert planned.moved.runs == 0
    assert not new.parent.exists()
    import psycopg

    with psycopg.connect(postgres_url) as connection:
        found = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone()
        assert found == (0,)
