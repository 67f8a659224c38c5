"""Stores that move: everything that is kept, byte by byte, from SQLite to PostgreSQL and back, interrupted or not."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from collegium.adapters.clock import SystemClock
from collegium.adapters.memory.bus import MemoryBus
from collegium.adapters.postgres.presence import PostgresPresence
from collegium.adapters.postgres.store import open_store as open_postgres
from collegium.adapters.presence import FilePresence, MemoryPresence
from collegium.adapters.sqlite.store import open_store as open_sqlite
from collegium.adapters.sqlite.transfer import SqliteEnd
from collegium.adapters.tools.workspace import FolderWorkspaces
from collegium.adapters.transfer import COUNTED, FENCES, Row, rows_of
from collegium.app import Collegium, Stores
from collegium.config import Settings
from collegium.domain.chat import Delta, ModelReply, ModelRequest, ToolCall
from collegium.domain.document import GivenFile
from collegium.domain.errors import Conflict, StoreUnavailable, UsageError
from collegium.domain.plan import Plan, Task
from collegium.domain.record import Record
from collegium.domain.usage import Allotment
from collegium.ports import Presence
from collegium.runtime.accounts import AccountCaps, PeriodCaps, is_account
from collegium.runtime.audit import verify_all
from collegium.runtime.retention import Retained, Retention
from collegium.testing.clock import FakeClock
from collegium.testing.harness import team
from collegium.testing.scripted import SCRIPTED_PROFILE, ScriptedModel, Step
from collegium.wiring import transfer as wiring
from collegium.wiring.transfer import Transferred

KEY = b"k" * 32
PLAN = Plan(
    tasks=(
        Task(id="one", title="One", capability="operate", instructions="Do one."),
        Task(id="two", title="Two", capability="operate", instructions="Do two.", depends_on=("one",)),
    )
)
CAPS = AccountCaps(tenant=PeriodCaps(day=Allotment(tokens=10_000_000)))
CALL = ToolCall(id="c", name="calculate", arguments={"expression": "6*7"})


def working() -> ScriptedModel:
    steps = [Step(expect_last=("42",), reply="It is 42.", times=None), Step(tool_calls=(CALL,), times=None)]
    return ScriptedModel(steps, ordered=False)


class Hanging:
    """A model that never answers."""

    profile = SCRIPTED_PROFILE

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    async def complete(self, request: ModelRequest) -> ModelReply:
        self.asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    async def stream(self, request: ModelRequest) -> AsyncIterator[Delta | ModelReply]:
        yield await self.complete(request)

    async def aclose(self) -> None:
        """Nothing to close."""


@asynccontextmanager
async def opened(url: str, presence: Presence | None = None) -> AsyncIterator[Stores]:
    store: Any
    if url.startswith("sqlite"):
        store = open_sqlite(Path(url.removeprefix("sqlite:///")), chain_key=KEY)
    else:
        store = await open_postgres(url, chain_key=KEY)
    try:
        yield Stores(
            journal=store.journal,
            bus=MemoryBus(SystemClock()),
            records=store.records,
            blobs=store.blobs,
            presence=presence or MemoryPresence(),
            archive=store.archive,
        )
    finally:
        await store.aclose()


class Filled:
    """A store with everything that can be in one, and the ids of what is."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.finished = self.waiting = self.hanging = self.fork = ""


async def fill(url: str, folder: Path) -> Filled:
    made = Filled(url)
    async with opened(url) as stores, team(working(), stores=stores, caps=CAPS) as app:
        runs = [await _run(app, f"Do both, {n}." + "\0\u00e4" * n) for n in range(3)]
        made.finished = runs[-1]
        big = await app.submit("Do both. " + "x" * 90_000, plan=PLAN)
        await asyncio.wait_for(big.result(), 20)
        fork = await app.fork(made.finished, at=3)
        await asyncio.wait_for(fork.result(), 20)
        made.fork = fork.id
        asked = await app.submit("Do both, later.", plan=PLAN, is_plan_reviewed=True, tenant="other")
        assert (await asyncio.wait_for(asked.result(), 20)).status == "waiting"
        made.waiting = asked.id
        await app.schedules.add("@daily", "Again", files=[GivenFile(path="s.md", data=b"kept")])
        value = {"a": "\0\u00e4", "b": [1.5, None]}
        await stores.records.put(Record(kind="note", tenant="other", key="k", value=value))
        await stores.records.put(Record(kind="note", tenant="other", key="k", value={"a": "again"}))
        clock = FakeClock(datetime.now(UTC) + timedelta(hours=2))
        retention = Retention(stores, FolderWorkspaces(folder / "runs"), clock=clock)
        await retention.prune("default", Retained(keep=4))
        await retention.prune("default", Retained(keep=3), what="bodies")
        assert stores.archive is not None
        await stores.archive.checkpoint(at=datetime.now(UTC))
    return made


async def _run(app: Collegium, text: str) -> str:
    run = await app.submit(text, plan=PLAN, files=[GivenFile(path="a.md", data=text.encode())])
    await asyncio.wait_for(run.result(), 20)
    return run.id


async def kill_one(made: Filled, path: Path) -> None:
    """Leaves an attempt open in the store at ``path``, as a worker does that is killed: its store is copied alive."""
    model = Hanging()
    alive = path.with_name("alive.db")
    await asyncio.to_thread(path.rename, alive)
    async with opened(f"sqlite:///{alive}") as stores, team(model, stores=stores) as app:
        run = await app.submit("Hang.", plan=PLAN)
        await asyncio.wait_for(model.asked.wait(), 20)
        made.hanging = run.id
        with sqlite3.connect(alive) as source, sqlite3.connect(path) as target:
            source.backup(target)
        source.close()
        target.close()


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


async def move(settings: Settings, source: str, target: str, *, is_dry: bool = False) -> Transferred:
    return await wiring.transfer(settings, source, target, is_dry=is_dry, progress=lambda what, done, total: None)


async def kept(url: str) -> dict[str, list[Row]]:
    """Every row of a store, as others read it."""
    end: Any
    if url.startswith("sqlite"):
        end = SqliteEnd(Path(url.removeprefix("sqlite:///")), is_source=True)
    else:
        from collegium.adapters.postgres.transfer import open_end

        end = await open_end(url, is_source=True)
    try:
        return {t.name: [row async for row in rows_of(end, t)] for t in (*COUNTED, FENCES)}
    finally:
        await end.aclose()


async def damaged(url: str) -> list[Any]:
    async with opened(url) as stores:
        assert stores.archive is not None
        found = [await verify_all(stores.journal, stores.archive, tenant) for tenant in ("default", "other")]
        assert all(one.runs for one in found)
        return [damage for one in found for damage in one.damaged]


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
            await _run(app, "Do both, anew.")
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
        await _run(app, "Do both, meanwhile.")
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
