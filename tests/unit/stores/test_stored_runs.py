"""Whole stores of released versions: new code opens them, shows what is in them, and goes on where they stopped."""

from __future__ import annotations

import asyncio
import importlib.util
import re
import sqlite3
from pathlib import Path
from types import ModuleType

import pytest

from collegium.adapters.clock import SystemClock
from collegium.adapters.memory.bus import MemoryBus
from collegium.adapters.memory.index import MemoryIndex
from collegium.adapters.memory.replay import replay
from collegium.adapters.presence import MemoryPresence
from collegium.adapters.scorers.lexical import LexicalScorer
from collegium.adapters.sqlite.store import SqliteStore, open_store
from collegium.adapters.sqlite.upgrade import SCHEMA
from collegium.agents.roster import builtin_agents
from collegium.app import Stores
from collegium.domain import body as b
from collegium.domain.event import VERSIONS
from collegium.domain.head import HeadQuery
from collegium.runtime.check import check_live
from collegium.runtime.export import export, parse
from collegium.testing.harness import team
from collegium.tools.builtin import builtin_tools

STORED = sorted((Path(__file__).parent / "stored").glob("*.sql"))


def made_by() -> ModuleType:
    spec = importlib.util.spec_from_file_location("old_runs", Path(__file__).parent / "stored" / "old_runs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def restored(dump: Path, path: Path) -> Path:
    connection = sqlite3.connect(path)
    connection.executescript(dump.read_text("utf-8"))
    connection.execute("PRAGMA journal_mode=WAL")
    connection.close()
    return path


def stores_of(store: SqliteStore) -> Stores:
    return Stores(
        journal=store.journal,
        bus=MemoryBus(SystemClock()),
        records=store.records,
        blobs=store.blobs,
        presence=MemoryPresence(),
        archive=store.archive,
    )


@pytest.mark.parametrize("dump", STORED, ids=lambda p: p.stem)
async def test_a_store_of_a_released_version_is_read_and_its_runs_go_on(dump: Path, tmp_path: Path) -> None:
    old = made_by()
    path = restored(dump, tmp_path / "store.db")
    store = open_store(path, chain_key=old.KEY)
    try:
        stopped, ended = [h.run for h in await store.journal.heads(HeadQuery(tenant="default"))]
        of_none = HeadQuery(tenant="default", projects=frozenset({""}))
        assert [h.run for h in await store.journal.heads(of_none)] == [stopped, ended]
        for run in (stopped, ended):
            events = await store.journal.read(run)
            assert any(e.v < VERSIONS[e.type] for e in events)
            assert await store.archive.verify(run) is None
        async with team(old.script(), tools=[old.fetch], stores=stores_of(store)) as app:
            assert (await app.result(ended)).status == "succeeded"
            seen, found = await check_live(store.journal, app.scheduler, app.pins, tenant="default")
            assert seen == 1
            assert [one.breaks for one in found] in ([], [None])
            assert (await app.state(stopped)).status == "waiting"
            old.CALLS.clear()
            await app.resume(stopped)
            report = await asyncio.wait_for(app.result(stopped), 20)
            assert report.status == "succeeded"
            assert old.CALLS == []  # both calls were stored by the old version
            fork = await app.fork(ended, at=len(await store.journal.read(ended)) // 2)
            assert (await asyncio.wait_for(fork.result(), 20)).status == "succeeded"
        assert await store.archive.verify(stopped) is None
        versions = {e.v for e in await store.journal.read(stopped) if isinstance(e.body, b.TaskReady)}
        assert len(versions) == 2
    finally:
        await store.aclose()


@pytest.mark.parametrize("dump", STORED, ids=lambda p: p.stem)
async def test_runs_of_a_released_version_replay_where_it_is_said_what_their_model_could_do(
    dump: Path, tmp_path: Path
) -> None:
    old = made_by()
    store = open_store(restored(dump, tmp_path / "store.db"), chain_key=old.KEY)
    try:
        async with team(old.script(), tools=[old.fetch], stores=stores_of(store)) as app:
            ended = (await app.runs())[-1].run
            # Somebody opens the model once, so that it is known.
            await app.pins.keep_model("default", "scripted:given", old.script().profile)
            lines = export(ended, app.stores, tenant="default", now=SystemClock().now(), key=old.KEY)
            made = parse([line async for line in lines])
        result = await replay(
            made,
            agents=builtin_agents(),
            tools=(*builtin_tools(), old.fetch),
            scorer=LexicalScorer(),
            index=MemoryIndex(),
            embedder=None,
        )
        assert result.miss is None
        assert result.replies == 4
        assert made.check(old.KEY).chain == "intact"
    finally:
        await store.aclose()


def test_an_upgraded_store_has_the_tables_of_a_new_one(tmp_path: Path) -> None:
    def tables(path: Path) -> set[tuple[str, ...]]:
        connection = sqlite3.connect(path)
        rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'").fetchall()
        (schema,) = connection.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone()
        connection.close()
        assert schema == str(SCHEMA)
        plain = ((name, "".join(line.partition("--")[0] + " " for line in sql.splitlines())) for name, sql in rows)
        return {(name, *re.findall(r"[(),]|[^\s(),]+", sql)) for name, sql in plain}

    for path in (restored(STORED[0], tmp_path / "old.db"), tmp_path / "new.db"):
        open_store(path, chain_key=b"k" * 32).close()
    assert tables(tmp_path / "old.db") == tables(tmp_path / "new.db")
