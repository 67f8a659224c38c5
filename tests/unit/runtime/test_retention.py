"""Retention: what goes, what stays, and what is left to show that nobody else has removed anything."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import pytest

from collegium.adapters.clock import SystemClock
from collegium.adapters.memory.bus import MemoryBus
from collegium.adapters.presence import MemoryPresence
from collegium.adapters.sqlite.store import SqliteStore, open_store
from collegium.adapters.tools.workspace import FolderWorkspaces
from collegium.app import Collegium, Stores
from collegium.domain.chat import ToolCall
from collegium.domain.document import GivenFile
from collegium.domain.errors import Conflict, NotFound, StoreFull
from collegium.domain.plan import Plan, Task
from collegium.domain.record import Record
from collegium.runtime.audit import Damage, verify_all
from collegium.runtime.fork import FORK, PRUNING
from collegium.runtime.retention import Retained, Retention
from collegium.testing.clock import FakeClock
from collegium.testing.harness import team
from collegium.testing.scripted import ScriptedModel, Step

KEY = b"k" * 32
NOTHING = Retained(keep=0)
PLAN = Plan(
    tasks=(
        Task(id="one", title="One", capability="operate", instructions="Do one."),
        Task(id="two", title="Two", capability="operate", instructions="Do two.", depends_on=("one",)),
    )
)


class Place:
    """A store on disk with a team that works on it."""

    def __init__(self, app: Collegium, store: SqliteStore, path: Path) -> None:
        self.app = app
        self.store = store
        self.workspaces = FolderWorkspaces(path.parent / "runs")
        self.clock = FakeClock(datetime.now(UTC) + timedelta(hours=2))
        self.retention = Retention(app.stores, self.workspaces, clock=self.clock)

    async def run(self, text: str = "Do both.") -> str:
        run = await self.app.submit(text, plan=PLAN, files=[GivenFile(path="a.md", data=text.encode())])
        await asyncio.wait_for(run.result(), 20)
        workspace = await self.workspaces.open("default", run.id)
        await workspace.write("x.txt", b"x")
        return run.id

    async def length(self, run: str) -> int:
        head = await self.store.journal.head(run)
        assert head is not None
        return head.seq

    async def verified(self) -> tuple[Damage, ...]:
        return (await verify_all(self.store.journal, self.store.archive, "default")).damaged


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with opened(tmp_path / "store.db") as place:
        yield place


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[Place]:
    clock = SystemClock()
    store = open_store(path, clock=clock, chain_key=KEY)
    stores = Stores(
        journal=store.journal,
        bus=MemoryBus(clock),
        records=store.records,
        blobs=store.blobs,
        presence=MemoryPresence(),
        archive=store.archive,
    )
    call = ToolCall(id="c", name="calculate", arguments={"expression": "6*7"})
    model = ScriptedModel(
        [Step(expect_last=("42",), reply="It is 42.", times=None), Step(tool_calls=(call,), times=None)], ordered=False
    )
    try:
        async with team(model, stores=stores) as app:
            yield Place(app, store, path)
    finally:
        await store.aclose()


async def test_the_oldest_finished_runs_go_with_everything_that_was_theirs(place: Place) -> None:
    runs = [await place.run(f"Do both, {n}.") for n in range(4)]
    files = {run: (await place.app.state(run)).goal.files[0].sha256 for run in runs}
    planned = await place.retention.plan("default", Retained(keep=2))
    assert [one.run for one in planned.runs] == runs[:2]
    assert all(one.size_bytes > 1_000 for one in planned.runs)

    pruned = await place.retention.prune("default", Retained(keep=2))
    assert (list(pruned.runs), pruned.folders, pruned.skipped) == (list(planned.runs), 2, ())
    assert pruned.blobs >= 2
    for run in runs[:2]:
        with pytest.raises(NotFound):
            await place.app.state(run)
        with pytest.raises(NotFound):
            await place.store.blobs.get("default", files[run])
        left = await place.store.archive.tombstone(run)
        assert left is not None
        assert (left.status, left.what, left.seq) == ("succeeded", "run", await place.length(run))
        assert left.submitted_at < left.finished_at < left.pruned_at
    for run in runs[2:]:
        assert (await place.app.state(run)).status == "succeeded"
        assert await place.store.blobs.get("default", files[run])
    assert await place.verified() == ()
    assert (await place.retention.prune("default", Retained(keep=2))).runs == ()


async def test_age_and_size_count_as_well(place: Place) -> None:
    runs = [await place.run(f"Do both, {n}.") for n in range(3)]
    old = Retained(older_than_s=3 * 3_600.0)
    assert (await place.retention.plan("default", old)).runs == ()
    await place.clock.advance(2 * 3_600)
    assert [one.run for one in (await place.retention.plan("default", old)).runs] == runs
    every = (await place.retention.plan("default", NOTHING)).runs
    two = every[1].size_bytes + every[2].size_bytes
    assert [one.run for one in (await place.retention.plan("default", Retained(keep_bytes=two))).runs] == runs[:1]
    assert len((await place.retention.plan("default", Retained(keep_bytes=two - 1))).runs) == 2


async def test_bodies_can_go_alone_and_the_chain_still_verifies(place: Place) -> None:
    run = await place.run()
    before = await place.store.archive.links(run)
    pruned = await place.retention.prune("default", NOTHING, what="bodies")
    assert [one.run for one in pruned.runs] == [run]
    after = await place.store.archive.links(run)
    assert [x._replace(body=None) for x in before] == list(after)
    with pytest.raises(NotFound, match="what it said can no longer be read"):
        await place.app.state(run)
    assert await place.verified() == ()
    assert (await place.retention.plan("default", NOTHING, what="bodies")).runs == ()
    assert [one.run for one in (await place.retention.prune("default", NOTHING)).runs] == [run]
    assert await place.store.archive.links(run) == ()
    assert await place.verified() == ()


async def test_what_forks_share_stays_as_long_as_they_do(place: Place) -> None:
    run = await place.run()
    events = [e async for e in place.app.events(run)]
    at = next(e.seq for e in events if e.type == "task.settled")
    fork = await place.app.fork(run, at=at)
    await asyncio.wait_for(fork.result(), 20)
    pruned = await place.retention.prune("default", Retained(keep=1))
    assert [(one.run, one.kept) for one in pruned.runs] == [(run, at)]
    assert (await place.app.state(fork.id)).tasks["one"].result is not None
    assert len(await place.store.archive.links(run)) == at
    assert await place.verified() == ()
    # A fork of the fork still finds all of it.
    again = await place.app.fork(fork.id, at=1)
    assert (await asyncio.wait_for(again.result(), 20)).status == "succeeded"
    await place.retention.prune("default", NOTHING)  # the forks go, the parent waits for the next time
    await place.retention.prune("default", NOTHING)
    await place.retention.prune("default", NOTHING)
    assert await place.store.archive.links(run) == ()
    assert await place.store.records.find(FORK, "default") == ()
    assert await place.verified() == ()


async def test_runs_under_way_and_parents_of_forks_under_way_stay(place: Place) -> None:
    run = await place.run()
    await place.app.aclose()  # from here on nobody works on anything
    waiting = await place.app.submit("Not yet.", plan=PLAN)
    fork = await place.app.fork(run, at=3)
    pruned = await place.retention.prune("default", NOTHING)
    assert pruned.runs == ()
    for one in (run, waiting.id, fork.id):
        assert (await place.app.state(one)).id == one


class Failing:
    """Something that is away once, when it is asked for ``name``."""

    def __init__(self, inner: object, name: str) -> None:
        self._inner, self._name, self.has_failed = inner, name, False

    def __getattr__(self, name: str) -> object:
        if name == self._name and not self.has_failed:
            self.has_failed = True
            raise StoreFull("no space left")
        return getattr(self._inner, name)


@pytest.mark.parametrize("where", ["prune", "tombstones", "collect", "remove", "delete"])
async def test_a_prune_that_breaks_off_is_ended_by_the_next(place: Place, where: str) -> None:
    runs = [await place.run(f"Do both, {n}.") for n in range(2)]
    stores = place.app.stores
    archive, records = Failing(stores.archive, where), Failing(stores.records, where)
    workspaces = Failing(place.workspaces, where)
    broken = Stores(
        journal=stores.journal,
        bus=stores.bus,
        records=records,  # type: ignore[arg-type]
        blobs=stores.blobs,
        presence=stores.presence,
        archive=archive,  # type: ignore[arg-type]
    )
    with pytest.raises(StoreFull):
        await Retention(broken, workspaces, clock=place.clock).prune("default", NOTHING)  # type: ignore[arg-type]
    assert archive.has_failed or records.has_failed or workspaces.has_failed
    assert await place.verified() == ()
    await place.retention.prune("default", NOTHING)
    for run in runs:
        assert await place.store.archive.links(run) == ()
        assert await place.workspaces.remove("default", run) is False
    assert await place.store.records.find(PRUNING, "default") == ()
    assert await place.verified() == ()
    assert (await place.retention.prune("default", NOTHING)).blobs == 0


async def test_who_forks_while_the_run_is_pruned_is_refused(place: Place) -> None:
    run = await place.run()
    await place.store.records.put(Record(kind=PRUNING, tenant="default", key=run, value={}))
    with pytest.raises(Conflict, match="being pruned"):
        await place.app.fork(run, at=2)
    assert await place.store.records.find(FORK, "default") == ()
    await place.retention.prune("default", NOTHING)
    with pytest.raises(NotFound):
        await place.app.fork(run, at=2)


@pytest.mark.parametrize("what", ["run", "bodies"])
@pytest.mark.parametrize(
    ("statement", "seq"),
    [
        ("UPDATE tombstones SET value = json_set(value, '$.status', 'failed')", 0),
        ("UPDATE tombstones SET value = json_set(value, '$.seq', 3)", 0),
        ("UPDATE tombstones SET value = 'x'", 0),
        ("UPDATE heads SET mac = zeroblob(32)", None),
        ("UPDATE heads SET seq = seq + 1", None),
        ("DELETE FROM tombstones", None),
    ],
)
async def test_whoever_touches_a_pruned_run_is_found_out(
    tmp_path: Path, what: Literal["run", "bodies"], statement: str, seq: int | None
) -> None:
    path = tmp_path / "store.db"
    async with opened(path) as place:
        run = await place.run()
        await place.retention.prune("default", NOTHING, what=what)
        assert await place.verified() == ()
    with sqlite3.connect(path) as connection:
        connection.execute(statement)
    connection.close()
    async with opened(path) as place:
        (damage,) = await place.verified()
        assert damage.run == run
        assert seq is None or damage.seq == seq


async def test_what_goes_is_signed_before_it_goes(place: Place) -> None:
    run = await place.run()
    before = len(await place.store.archive.checkpoints("default"))
    await place.retention.prune("default", NOTHING)
    listed = (await place.store.archive.covered("default")).listed[run]
    assert (await place.store.archive.tombstone(run)) is not None
    assert listed[-1].seq == await place.length(run)
    assert listed[-1].number > before
    connection = sqlite3.connect(place.store.path)
    for table in ("heads", "tombstones"):
        connection.execute(f"DELETE FROM {table} WHERE run = ?", (run,))
    connection.commit()
    connection.close()
    assert [(d.run, d.seq) for d in await place.verified()] == [(run, 1)]
