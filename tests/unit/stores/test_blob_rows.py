"""What stands in the blobs' rows: age, and the large bodies of events."""

import sqlite3
from datetime import timedelta

from collegium.adapters.sqlite.store import open_store
from collegium.testing.clock import FakeClock
from collegium.testing.conformance.drafts import begin, noted


def rows(path, statement: str) -> list[tuple]:
    connection = sqlite3.connect(path)
    try:
        return connection.execute(statement).fetchall()
    finally:
        connection.close()


async def test_only_a_put_renews_the_age(tmp_path):
    clock, path = FakeClock(), tmp_path / "store.db"
    store = open_store(path, clock=clock)
    store.blobs.put("acme", b"x")
    await store.blobs.flush()
    ages = [rows(path, "SELECT stored_at FROM blobs")]
    await clock.advance(100)
    await begin(store.journal, "run_a")
    ages.append(rows(path, "SELECT stored_at FROM blobs"))
    store.blobs.put("acme", b"x")
    await store.blobs.flush()
    ages.append(rows(path, "SELECT stored_at FROM blobs"))
    assert ages[0] == ages[1]
    assert ages[2][0][0] - ages[1][0][0] == timedelta(seconds=100) // timedelta(microseconds=1)
    await store.aclose()


async def test_large_bodies_are_blobs_and_equal_ones_are_stored_once(tmp_path):
    path = tmp_path / "store.db"
    store = open_store(path)
    await begin(store.journal, "run_a", notes=1)
    await begin(store.journal, "run_b", tenant="other")
    for _ in range(3):
        await store.journal.append("run_a", [noted("x" * 10_000)]).durable()
    await store.journal.append("run_b", [noted("x" * 10_000, tenant="other")]).durable()
    assert rows(path, "SELECT count(*), count(DISTINCT sha256) FROM blobs") == [(2, 1)]
    assert rows(path, "SELECT count(*) FROM events WHERE body IS NULL AND blob IS NOT NULL") == [(4,)]
    assert rows(path, "SELECT max(length(body)) < 4096, count(*) FROM events WHERE blob IS NULL") == [(1, 3)]
    await store.aclose()


async def test_what_another_process_deleted_stays_deleted(tmp_path):
    one, two = open_store(tmp_path / "store.db"), open_store(tmp_path / "store.db")
    name = one.blobs.put("acme", b"x")
    await one.blobs.flush()
    assert await two.blobs.delete("acme", name)
    await begin(one.journal, "run_a")
    assert rows(tmp_path / "store.db", "SELECT count(*) FROM blobs") == [(0,)]
    for store in (one, two):
        await store.aclose()
