"""Months of events: made ahead, made late, and each touched alone."""

import asyncio
from datetime import UTC, datetime

import psycopg
import pytest

from collegium.adapters.postgres.connection import connect
from collegium.adapters.postgres.store import open_store
from collegium.adapters.postgres.upgrade import MONTHS_AHEAD, make_partitions
from collegium.domain.head import HeadQuery
from collegium.domain.ids import Ids
from collegium.testing.conformance.archive import a_finished_run, tombstone_of
from collegium.testing.conformance.drafts import begin, noted


def sql(url: str, query: str, *values: object) -> list[tuple]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(query, values)
        return cursor.fetchall() if cursor.description else []


def month_of(ahead: int) -> datetime:
    now = datetime.now(UTC)
    return datetime(now.year + (now.month - 1 + ahead) // 12, (now.month - 1 + ahead) % 12 + 1, 15, tzinfo=UTC)


def run_in(ahead: int) -> str:
    at_ms = int(month_of(ahead).timestamp() * 1_000)
    return Ids(lambda: at_ms).run()


def part_of(url: str, run: str) -> str:
    ((part,),) = sql(url, "SELECT DISTINCT tableoid::regclass::text FROM events WHERE run = %s", run)
    return str(part)


def parts(url: str) -> set[str]:
    return {name for (name,) in sql(url, "SELECT relid::text FROM pg_partition_tree('events') WHERE isleaf")}


async def test_months_ahead_are_there_and_the_rest_has_a_place(postgres_url: str):
    store = await open_store(postgres_url)
    for ahead in range(MONTHS_AHEAD + 1):
        await begin(store.journal, run := run_in(ahead))
        assert part_of(postgres_url, run) == f"events_{month_of(ahead):%Y%m}"
    late, old, account = run_in(MONTHS_AHEAD + 3), run_in(-30), "acct_tenant_acme_2026-11"
    for run in (late, old, account):
        await begin(store.journal, run)
    assert (part_of(postgres_url, late), part_of(postgres_url, old)) == ("events_rest", "events_rest")
    assert part_of(postgres_url, account) == "events_accounts"
    months = {f"events_{month_of(ahead):%Y%m}" for ahead in range(MONTHS_AHEAD + 1)}
    assert parts(postgres_url) == {"events_accounts", "events_rest"} | months
    assert sql(postgres_url, "SELECT count(*) FROM events_rest") == [(2,)]
    await store.aclose()


@pytest.mark.parametrize("count", [0, 3])
async def test_a_month_that_is_made_late_takes_what_the_default_holds_of_it(postgres_url: str, count: int):
    """With a row of its month in the default partition PostgreSQL would refuse to make it, for ever."""
    store = await open_store(postgres_url)
    this_month = f"events_{month_of(0):%Y%m}"
    sql(postgres_url, f"DROP TABLE {this_month}")
    runs = [run_in(0) for _ in range(count)]
    for run in (*runs, old := run_in(-30)):
        await begin(store.journal, run, notes=2)
        await store.journal.append(run, [noted("y" * 20_000)]).durable()
        assert part_of(postgres_url, run) == "events_rest"
    before = [await store.journal.read(run) for run in runs]
    scanned, _ = await store.journal.scan()
    connection = await connect(postgres_url)
    assert await make_partitions(connection) == 1
    assert await make_partitions(connection) == 0
    await connection.close()
    assert this_month in parts(postgres_url)
    assert [await store.journal.read(run) for run in runs] == before
    assert (await store.journal.scan())[0] == scanned
    for run in runs:
        assert part_of(postgres_url, run) == this_month
        await store.journal.append(run, [noted("more")]).durable()
        assert await store.archive.verify(run) is None
    assert part_of(postgres_url, old) == "events_rest"
    await store.aclose()


async def test_making_months_waits_for_nobody_for_long_and_stops_nobody(postgres_url: str):
    store = await open_store(postgres_url)
    sql(postgres_url, f"DROP TABLE events_{month_of(0):%Y%m}")
    with psycopg.connect(postgres_url) as reader:
        reader.execute("SELECT count(*) FROM events")  # a report that takes its time
        connection = await connect(postgres_url)
        with pytest.raises(psycopg.errors.LockNotAvailable):
            await make_partitions(connection)
        await connection.close()
        run = run_in(0)
        await begin(store.journal, run)
    await store.archive.checkpoint(at=datetime.now(UTC))  # whoever signs looks ahead, too
    assert part_of(postgres_url, run) == f"events_{month_of(0):%Y%m}"
    await store.aclose()


async def test_several_who_make_months_at_once_make_them_once(postgres_url: str):
    store = await open_store(postgres_url)
    for ahead in range(MONTHS_AHEAD + 1):
        sql(postgres_url, f"DROP TABLE events_{month_of(ahead):%Y%m}")
    connections = [await connect(postgres_url) for _ in range(4)]
    made = await asyncio.gather(*map(make_partitions, connections))
    assert sorted(made) == [0, 0, 0, MONTHS_AHEAD + 1]
    for connection in connections:
        await connection.close()
    await store.aclose()


async def test_pruning_takes_one_run_and_leaves_its_months_to_the_others(postgres_url: str):
    store = await open_store(postgres_url)
    gone, kept, other = run_in(0), run_in(0), run_in(1)
    for run in (gone, kept, other):
        await a_finished_run(store.journal, run)
    before = parts(postgres_url)
    await store.archive.prune(await tombstone_of(store.journal, gone, "run"))
    assert await store.journal.read(gone) == ()
    for run in (kept, other):
        assert len(await store.journal.read(run)) == 5
        assert await store.archive.verify(run) is None
    assert parts(postgres_url) == before
    assert {head.run for head in await store.journal.heads(HeadQuery())} == {gone, kept, other}
    await store.aclose()
