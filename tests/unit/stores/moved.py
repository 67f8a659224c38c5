"""A store with everything that can be in one, and what it holds after it was moved."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from collegium.adapters.clock import SystemClock
from collegium.adapters.memory.bus import MemoryBus
from collegium.adapters.postgres.store import open_store as open_postgres
from collegium.adapters.postgres.transfer import open_end
from collegium.adapters.presence import MemoryPresence
from collegium.adapters.sqlite.store import open_store as open_sqlite
from collegium.adapters.sqlite.transfer import SqliteEnd
from collegium.adapters.tools.workspace import FolderWorkspaces
from collegium.adapters.transfer import COUNTED, FENCES, End, Row, rows_of
from collegium.app import Collegium, Stores
from collegium.config import Settings
from collegium.domain.chat import Delta, ModelReply, ModelRequest, ToolCall
from collegium.domain.document import GivenFile
from collegium.domain.plan import Plan, Task
from collegium.domain.record import Record
from collegium.domain.usage import Allotment
from collegium.ports import Presence
from collegium.runtime.accounts import AccountCaps, PeriodCaps
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
        runs = [await run_once(app, f"Do both, {n}." + "\0\u00e4" * n) for n in range(3)]
        made.finished = runs[-1]
        big = await app.submit("Do both. " + "x" * 90_000, plan=PLAN)
        await asyncio.wait_for(big.result(), 20)
        fork = await app.fork(made.finished, at=3)
        await asyncio.wait_for(fork.result(), 20)
        made.fork = fork.id
        asked = await app.submit("Do both, later.", plan=PLAN, is_plan_reviewed=True, tenant="other", project="p")
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


async def run_once(app: Collegium, text: str) -> str:
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


async def move(settings: Settings, source: str, target: str, *, is_dry: bool = False) -> Transferred:
    return await wiring.transfer(settings, source, target, is_dry=is_dry, progress=lambda what, done, total: None)


@asynccontextmanager
async def end_of(url: str) -> AsyncIterator[End]:
    sqlite = url.startswith("sqlite")
    path = Path(url.removeprefix("sqlite:///"))
    end: End = SqliteEnd(path, is_source=True) if sqlite else await open_end(url, is_source=True)
    try:
        yield end
    finally:
        await end.aclose()


async def kept(url: str) -> dict[str, list[Row]]:
    """Every row of a store, as others read it."""
    async with end_of(url) as end:
        return {t.name: [row async for row in rows_of(end, t)] for t in (*COUNTED, FENCES)}


async def meta_of(url: str) -> dict[str, str]:
    async with end_of(url) as end:
        return await end.meta()


async def damaged(url: str) -> list[Any]:
    async with opened(url) as stores:
        assert stores.archive is not None
        found = [await verify_all(stores.journal, stores.archive, tenant) for tenant in ("default", "other")]
        assert all(one.runs for one in found)
        return [damage for one in found for damage in one.damaged]
