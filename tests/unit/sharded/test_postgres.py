"""Shards that are PostgreSQL databases, one on a server that goes away, and lists from a replica."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from collegium.adapters.postgres.replica import PostgresReplica
from collegium.adapters.postgres.store import open_store
from collegium.adapters.sharded.replica import PAUSE_S, ReplicatedJournal
from collegium.app import Collegium
from collegium.config import Settings, load_settings
from collegium.domain.errors import StoreCorrupt, StoreUnavailable
from collegium.domain.head import HeadQuery
from collegium.domain.ids import shard_of
from collegium.runtime.audit import verify_stores
from collegium.runtime.retention import Retained
from collegium.testing.clock import FakeClock
from collegium.testing.conformance.drafts import begin, eventually, noted
from collegium.testing.servers import MissingServer, Server, postgres_replica, postgres_server
from collegium.wiring import open_collegium, retention
from tests.unit.runtime.plans import ONE

LISTING = HeadQuery(tenant="acme", may_lag=True)
SCRIPT = '[[step]]\ntimes = "any"\nreply = "Done."\n'


@pytest.fixture
def own_server() -> Iterator[Server]:
    """A PostgreSQL server that the test may stop."""
    try:
        with postgres_server() as server:
            yield server
    except MissingServer as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))


def given(folder: Path, store: str, **postgres: Any) -> Settings:
    (folder / "script.toml").write_text(f"ordered = false\n{SCRIPT}")
    return load_settings(
        None, {}, {"data_dir": str(folder), "store": store, "postgres": {"patience_s": 5.0, **postgres}}
    )


async def test_runs_in_two_databases(tmp_path: Path, postgres_database: Callable[[], str]) -> None:
    settings = given(tmp_path, postgres_database(), shards=[postgres_database()])
    async with open_collegium(settings, scope="all", model=f"scripted:{tmp_path}/script.toml") as app:
        runs = await asyncio.gather(*(app.submit(f"goal {n}", plan=ONE) for n in range(24)))
        assert {(await run.result()).status for run in runs} == {"succeeded"}
        assert {shard_of(run.id) for run in runs} == {0, 1}
        assert [head.run for head in await app.runs()] == sorted((run.id for run in runs), reverse=True)
        fork = await app.fork(next(run.id for run in runs if shard_of(run.id) == 1), at=4)
        assert (await fork.result()).status == "succeeded"
        assert app.stores.archive is not None
        await app.stores.archive.checkpoint(at=FakeClock().now())
        found = await verify_stores(app.stores, "default")
        assert sum(one.runs for one in found.values()) == 25
        assert [one.damaged for one in found.values()] == [(), ()]
        pruned = await retention(app, settings).prune("default", Retained(keep=5))
        assert len(pruned.runs) == 20
        assert not [d for one in (await verify_stores(app.stores, "default")).values() for d in one.damaged]


async def test_a_server_that_goes_away_takes_only_its_runs_with_it_and_may_be_away_at_the_start(
    tmp_path: Path, postgres_url: str, own_server: Server
) -> None:
    settings = given(tmp_path, postgres_url, shards=[own_server.url])
    model = f"scripted:{tmp_path}/script.toml"
    async with open_collegium(settings, scope="none", model=model) as app:
        begun = [(await app.submit(f"goal {n}", plan=ONE)).id for n in range(10)]
    there, gone = [r for r in begun if shard_of(r) == 0], [r for r in begun if shard_of(r) == 1]
    assert gone
    own_server.stop()
    async with open_collegium(settings, scope="all", model=model) as app:
        for run in there:
            assert (await app.result(run)).status == "succeeded"
        with pytest.raises(StoreUnavailable, match="shard 1"):
            await app.runs()
        more = [await app.submit(f"goal {n}", plan=ONE) for n in range(6)]
        assert {shard_of(run.id) for run in more} == {0}
        assert {(await run.result()).status for run in more} == {"succeeded"}
        own_server.start()
        await eventually(lambda: _is_back(app), within_s=20.0)
        for run in gone:
            assert (await app.result(run)).status == "succeeded"
        own_server.crash()
        await asyncio.gather(*(run.result() for run in more))
        own_server.start()


async def test_lists_are_read_from_a_replica_and_from_the_store_while_it_is_away(own_server: Server) -> None:
    clock = FakeClock()
    store = await open_store(own_server.url)
    with postgres_replica(own_server) as server:
        replica = PostgresReplica(server.url, store_id=store.meta.id, wait_s=0.5)
        journal = ReplicatedJournal(store.journal, replica, clock=clock)
        await begin(journal, "run_a")
        await journal.append("run_a", [noted("x")]).durable()

        async def has_arrived() -> bool:
            heads = await replica.heads(LISTING)
            return [head.seq for head in heads] == [2]

        await eventually(has_arrived)
        assert await journal.heads(LISTING) == await store.journal.heads(LISTING)
        assert journal.answered == 1
        await journal.heads(HeadQuery(tenant="acme"))
        await journal.heads(HeadQuery(due_before=clock.now()))
        assert journal.answered == 1, "who decides asks the store itself"
        stranger = PostgresReplica(server.url, store_id="0" * 32)
        with pytest.raises(StoreCorrupt, match="is no replica"):
            await stranger.heads(LISTING)
        await stranger.aclose()
        server.stop()
        assert [head.run for head in await journal.heads(LISTING)] == ["run_a"]
        server.start()
        assert [head.run for head in await journal.heads(LISTING)] == ["run_a"]
        assert journal.answered == 1, "it is left alone for a while"
        await clock.advance(PAUSE_S)
        assert [head.run for head in await journal.heads(LISTING)] == ["run_a"]
        assert journal.answered == 2
        await replica.aclose()
    await store.aclose()


async def test_a_replica_of_settings_answers_listings_with_a_role_that_may_only_read(
    tmp_path: Path, own_server: Server
) -> None:
    import psycopg

    with postgres_replica(own_server) as server:
        settings = given(tmp_path, own_server.url, replica=server.url.replace("collegium:collegium", "lister:x"))
        async with open_collegium(settings, scope="none", model=f"scripted:{tmp_path}/script.toml") as app:
            with psycopg.connect(own_server.url, autocommit=True) as connection:
                connection.execute("CREATE ROLE lister LOGIN PASSWORD 'x' BYPASSRLS")
                connection.execute("GRANT SELECT ON meta, heads TO lister")
            run = await app.submit("goal", plan=ONE)
            journal = app.stores.journal
            assert isinstance(journal, ReplicatedJournal)
            query = HeadQuery(tenant="default", may_lag=True)

            async def is_listed() -> bool:
                return [head.run for head in await journal.heads(query)] == [run.id] and journal.answered > 0

            await eventually(is_listed)


async def _is_back(app: Collegium) -> bool:
    try:
        await app.runs()
    except StoreUnavailable:
        return False
    return True
