"""Scans and checkpoints while transactions end in another order than they began."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import psycopg

from collegium.adapters.postgres.store import PostgresStore, open_store
from collegium.domain.event import Event
from collegium.testing.conformance.drafts import NOW, begin, eventually, noted

RUNS = ("run_a", "run_b", "run_c")
_BLOCKED = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


@asynccontextmanager
async def two_stores(url: str) -> AsyncIterator[tuple[PostgresStore, PostgresStore]]:
    one, two = await open_store(url), await open_store(url)
    for run in RUNS:
        await begin(one.journal, run)
    yield one, two
    await one.aclose()
    await two.aclose()


async def test_a_scan_keeps_the_order_of_a_run_and_misses_nothing(postgres_url: str):
    """The first writer begins, and has its number; the second writes and commits what the first then builds on."""
    async with two_stores(postgres_url) as (one, two):
        before, cursor = await one.journal.scan()
        assert len(before) == 3
        with psycopg.connect(postgres_url) as third, psycopg.connect(postgres_url, autocommit=True) as look:
            third.execute("SELECT 1 FROM heads WHERE run = 'run_b' FOR UPDATE")
            waiting = asyncio.gather(*(one.journal.append(run, [noted("one")]).durable() for run in RUNS))

            async def is_blocked() -> bool:
                return look.execute(_BLOCKED).fetchone() is not None

            await eventually(is_blocked)  # with the head of run_a locked, and that of run_c not yet
            await two.journal.append("run_c", [noted("two")]).durable()
            # What it wrote is there, but what could still come before it is not.
            assert len(await two.journal.read("run_c")) == 2
            assert await two.journal.scan(cursor) == ((), cursor)
        await waiting
        seen: list[Event] = []
        while page := (await two.journal.scan(cursor, limit=1))[0]:
            seen += page
            _, cursor = await two.journal.scan(cursor, limit=1)
        assert len(seen) == 4
        for run in RUNS:
            assert tuple(e for e in seen if e.run == run) == await two.journal.read(run, after=1)


async def test_checkpoints_list_each_change_once_whatever_is_under_way(postgres_url: str):
    async with two_stores(postgres_url) as (one, two):
        with psycopg.connect(postgres_url) as third:
            third.execute("SELECT pg_current_xact_id()")  # somebody's long import
            (first,) = await one.archive.checkpoint(at=NOW)
            assert [entry.run for entry in first.entries or ()] == list(RUNS)
            assert await one.archive.checkpoint(at=NOW) == ()
            for n in range(5):
                await two.journal.append("run_b", [noted(n)]).durable()
                (made,) = await two.archive.checkpoint(at=NOW + n * timedelta(seconds=1))
                assert [(entry.run, entry.seq) for entry in made.entries or ()] == [("run_b", n + 2)]
                assert await one.archive.checkpoint(at=NOW + n * timedelta(seconds=1)) == ()
            third.commit()
        assert await one.archive.checkpoint(at=NOW) == ()
        await two.journal.append("run_c", [noted("x")]).durable()
        (last,) = await one.archive.checkpoint(at=NOW)
        assert [entry.run for entry in last.entries or ()] == ["run_c"]
        assert (await one.archive.covered("acme")).flaw is None


async def test_a_checkpoint_finds_what_began_before_the_last_one_and_ended_after_it(postgres_url: str):
    async with two_stores(postgres_url) as (one, two):
        with psycopg.connect(postgres_url) as third, psycopg.connect(postgres_url, autocommit=True) as look:
            third.execute("SELECT 1 FROM heads WHERE run = 'run_b' FOR UPDATE")
            waiting = asyncio.gather(*(one.journal.append(run, [noted("one")]).durable() for run in ("run_a", "run_b")))

            async def is_blocked() -> bool:
                return look.execute(_BLOCKED).fetchone() is not None

            await eventually(is_blocked)
            await two.journal.append("run_c", [noted("two")]).durable()
            (first,) = await two.archive.checkpoint(at=NOW)
            assert [(e.run, e.seq) for e in first.entries or ()] == [("run_a", 1), ("run_b", 1), ("run_c", 2)]
        await waiting
        (second,) = await two.archive.checkpoint(at=NOW)
        assert [(e.run, e.seq) for e in second.entries or ()] == [("run_a", 2), ("run_b", 2)]
