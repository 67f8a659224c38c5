"""A PostgreSQL server that is away, crashes, stands still or throws connections out."""

import asyncio
import os
import signal
from collections.abc import Iterator
from urllib.parse import urlsplit

import psycopg
import pytest

from collegium.adapters.postgres import reader, writer
from collegium.adapters.postgres.presence import PostgresPresence
from collegium.adapters.postgres.store import PostgresStore, open_store
from collegium.domain.errors import StoreUnavailable
from collegium.domain.record import Record
from collegium.testing.clock import FakeClock
from collegium.testing.conformance.drafts import begin, eventually, noted
from collegium.testing.servers import MissingServer, Server, postgres_server


@pytest.fixture
def server(postgres: Server) -> Iterator[Server]:
    """A server that this test may stop."""
    try:
        with postgres_server() as own:
            yield own
    except MissingServer as error:
        pytest.skip(str(error))


def sql(url: str, query: str) -> list[tuple]:
    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute(query).fetchall()


async def notes_of(store: PostgresStore) -> list[str]:
    return [getattr(e.body, "note", "") for e in await store.journal.read("run_a", after=1)]


async def test_what_was_acknowledged_is_there_after_a_crash_and_nothing_twice(server: Server):
    store = await open_store(server.url, patience_s=60.0)
    await begin(store.journal, "run_a")
    acknowledged: list[str] = []

    async def work() -> None:
        for n in range(50):
            await store.journal.append("run_a", [noted(n)]).durable()
            acknowledged.append(str(n))

    working = asyncio.create_task(work())
    for count in (10, 25, 40):

        async def has_done_so_many(count: int = count) -> bool:
            return len(acknowledged) >= count

        await eventually(has_done_so_many)
        await asyncio.to_thread(server.crash)
        before = list(acknowledged)
        await asyncio.to_thread(server.start)
        assert (await notes_of(store))[: len(before)] == before
    await working
    assert await notes_of(store) == [str(n) for n in range(50)]
    assert await store.archive.verify("run_a") is None
    await store.aclose()


async def test_a_store_that_is_away_too_long_fails_what_waits_and_comes_back_by_itself(server: Server):
    store = await open_store(server.url, patience_s=0.3)
    await begin(store.journal, "run_a")
    await asyncio.to_thread(server.stop)
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="cannot be used now"):
            await store.journal.append("run_a", [noted("lost")]).durable()
        with pytest.raises(StoreUnavailable):
            await store.journal.read("run_a")
        with pytest.raises(StoreUnavailable):
            await store.records.put(Record(kind="k", tenant="acme", key="a", value={}))
        store.blobs.put("acme", b"x")
        with pytest.raises(StoreUnavailable):
            await store.blobs.flush()
    await asyncio.to_thread(server.start)
    await store.journal.append("run_a", [noted("back")]).durable()
    assert await notes_of(store) == ["back"]
    await store.records.put(Record(kind="k", tenant="acme", key="a", value={}), expected=0)
    await store.aclose()


async def test_within_its_patience_nobody_notices(server: Server):
    store = await open_store(server.url, patience_s=60.0)
    await begin(store.journal, "run_a")
    await asyncio.to_thread(server.stop)
    name = store.blobs.put("acme", b"x")
    waiting = [
        asyncio.ensure_future(store.journal.append("run_a", [noted("kept")]).durable()),
        asyncio.ensure_future(store.journal.read("run_a")),
        asyncio.ensure_future(store.journal.head("run_a")),
        asyncio.ensure_future(store.blobs.flush()),
        asyncio.ensure_future(store.records.put(Record(kind="k", tenant="acme", key="a", value={}))),
    ]
    await asyncio.to_thread(server.start)
    await asyncio.gather(*waiting)
    assert await notes_of(store) == ["kept"]
    assert await store.blobs.get("acme", name) == b"x"
    await store.aclose()


async def test_a_server_that_stands_still_is_given_up_and_used_again(server: Server, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(writer, "SILENCE_S", 0.5)
    monkeypatch.setattr(reader, "SILENCE_S", 0.5)
    store = await open_store(f"{server.url}?connect_timeout=2", patience_s=0.2)
    await begin(store.journal, "run_a")
    await store.journal.read("run_a")
    # The process that listens, and those that serve our connections.
    serving = "SELECT pid FROM pg_stat_activity WHERE application_name = 'collegium'"
    pids = [pid for (pid,) in sql(server.url, serving)]
    assert len(pids) == 2
    server.pause()
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    # At once: psycopg itself asks a silent server for 10 s to give up a statement, before it closes a connection.
    appending = store.journal.append("run_a", [noted("lost")]).durable()
    given_up = await asyncio.gather(appending, store.journal.read("run_a"), return_exceptions=True)
    assert [type(one) for one in given_up] == [StoreUnavailable, StoreUnavailable]
    server.go_on()
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
    monkeypatch.setattr(writer, "SILENCE_S", 30.0)
    monkeypatch.setattr(reader, "SILENCE_S", 30.0)

    async def is_back() -> bool:
        try:
            await store.journal.append("run_a", [noted("back")]).durable()
        except StoreUnavailable:
            return False
        return True

    await eventually(is_back, within_s=30.0)
    assert (await notes_of(store))[-1] == "back"
    await store.aclose()


async def test_a_writer_that_is_thrown_out_in_the_middle_writes_again(postgres_url: str):
    store = await open_store(postgres_url)
    await begin(store.journal, "run_a")
    with psycopg.connect(postgres_url) as other:
        other.execute("SELECT 1 FROM heads WHERE run = 'run_a' FOR UPDATE")
        waiting = asyncio.ensure_future(store.journal.append("run_a", [noted(1)]).durable())
        blocked = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )

        async def was_thrown_out() -> bool:
            return await asyncio.to_thread(sql, postgres_url, blocked) == [(True,)]

        await eventually(was_thrown_out)
    (event,) = await waiting
    assert event.seq == 2
    await store.aclose()


async def test_a_server_that_only_follows_another_for_now_is_waited_for(postgres_url: str):
    """As in a failover: the name leads to a standby first, which then becomes the primary."""
    store = await open_store(postgres_url, patience_s=60.0)
    await begin(store.journal, "run_a")
    name = urlsplit(postgres_url).path[1:]
    others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    with psycopg.connect(postgres_url, autocommit=True) as look:
        look.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        look.execute(f"SELECT pg_terminate_backend(pid, 5000) {others}")
        waiting = asyncio.ensure_future(store.journal.append("run_a", [noted("after")]).durable())

        async def was_refused() -> bool:
            return bool(look.execute(f"SELECT 1 {others}").fetchone())

        await eventually(was_refused)
        assert await store.journal.head("run_a") is not None
        look.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
    await waiting
    assert await notes_of(store) == ["after"]
    await store.aclose()


async def test_connections_that_were_closed_meanwhile_are_not_used(postgres_url: str):
    store = await open_store(postgres_url)
    await begin(store.journal, "run_a")
    others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    for _ in range(3):
        await asyncio.gather(*(store.journal.read("run_a") for _ in range(4)))
        await asyncio.to_thread(sql, postgres_url, f"SELECT pg_terminate_backend(pid, 5000) {others}")
        # A write is never made twice by itself, so it has to find a connection that lives.
        await store.records.put(Record(kind="k", tenant="acme", key="a", value={}))
        await store.journal.append("run_a", [noted("x")]).durable()
    assert (await notes_of(store)) == ["x"] * 3
    await store.aclose()


async def test_of_two_that_lock_each_other_out_both_get_through(postgres_url: str):
    store = await open_store(postgres_url)
    for run in ("run_a", "run_b"):
        await begin(store.journal, run)
    with psycopg.connect(postgres_url) as other:
        other.execute("SELECT 1 FROM heads WHERE run = 'run_b' FOR UPDATE")
        both = [store.journal.append(run, [noted(1)]) for run in ("run_a", "run_b")]
        waiting = asyncio.gather(*(receipt.durable() for receipt in both))
        blocked = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"

        async def is_blocked() -> bool:
            return bool(await asyncio.to_thread(sql, postgres_url, blocked))

        await eventually(is_blocked)
        # Whoever waited first looks first, finds the circle, and gives way.
        await asyncio.to_thread(other.execute, "SELECT 1 FROM heads WHERE run = 'run_a' FOR UPDATE")
    assert [events[0].seq for events in await waiting] == [2, 2]
    await store.aclose()


async def test_beats_that_cannot_be_stored_are_missed_and_made_again(server: Server):
    await (await open_store(server.url)).aclose()
    clock = FakeClock()
    one = PostgresPresence(server.url, clock=clock, lease_s=0.4, now_s=clock.monotonic)
    two = PostgresPresence(server.url, clock=clock, lease_s=0.4)
    await one.announce("wrk_1")
    assert one.fresh_s() > 0
    await asyncio.to_thread(server.stop)
    await clock.advance(0.3)
    one.tick()
    assert one.fresh_s() <= 0
    with pytest.raises(StoreUnavailable):
        await two.dead()
    await asyncio.to_thread(server.start)

    async def beats_again() -> bool:
        one.tick()
        return one.fresh_s() > 0

    await eventually(beats_again)
    assert one.gaps() == 1
    assert await two.dead() == ()
    await one.withdraw("wrk_1")
    await asyncio.to_thread(server.stop)
    with pytest.raises(StoreUnavailable):
        await two.announce("wrk_2")
    await one.aclose()
    await two.aclose()
