"""Bus and cache files: damaged ones are made anew, replaced ones followed, locked ones waited for off the loop."""

import asyncio
import os
import sqlite3
import time

import pytest

from collegium.adapters.bus_rules import BusRules
from collegium.adapters.clock import SystemClock
from collegium.adapters.sqlite.bus import SqliteBus
from collegium.adapters.sqlite.cache import SqliteCache
from collegium.adapters.sqlite.scratch import ScratchFile
from collegium.domain.errors import StoreReadOnly
from collegium.domain.message import Message
from collegium.testing.clock import FakeClock

SCHEMA = ("CREATE TABLE notes (n INTEGER)",)


def message(id_: str, topic: str = "tasks.a") -> Message:
    return Message(id=id_, topic=topic, tenant="acme", body={"n": 1})


async def test_messages_outlive_the_process(tmp_path):
    bus = SqliteBus(tmp_path / "bus.db", FakeClock())
    await bus.publish(message("m1", "news"))
    await bus.publish(message("m2", "news"))
    (claim,) = await bus.claim(["news"], "workers")
    await bus.settle(claim)
    await bus.aclose()
    bus = SqliteBus(tmp_path / "bus.db", FakeClock())
    assert [c.message.id for c in await bus.claim(["news"], "workers", 9)] == ["m2"]
    assert [m.id for m in await bus.read("news")] == ["m1", "m2"]
    await bus.aclose()


@pytest.mark.parametrize("content", [b"garbage" * 1000, os.urandom(20_000), b"SQLite format 3\x00" + b"\xff" * 4080])
async def test_a_damaged_file_is_made_anew(tmp_path, content):
    (tmp_path / "bus.db").write_bytes(content)
    bus = SqliteBus(tmp_path / "bus.db", FakeClock())
    assert await bus.publish(message("m"))
    assert len(await bus.claim(["tasks.a"], "workers")) == 1
    await bus.aclose()


async def test_a_file_of_another_version_is_made_anew(tmp_path):
    connection = sqlite3.connect(tmp_path / "bus.db")
    connection.execute("CREATE TABLE messages (x)")
    connection.execute("PRAGMA user_version=99")
    connection.close()
    bus = SqliteBus(tmp_path / "bus.db", FakeClock())
    assert await bus.publish(message("m"))
    await bus.aclose()


async def test_damage_while_it_is_open_costs_messages_and_nothing_else(tmp_path):
    path = tmp_path / "bus.db"
    bus = SqliteBus(path, FakeClock())
    assert await bus.claim(["tasks.a"], "workers") == ()
    for n in range(300):
        await bus.publish(message(f"m{n}"))
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(path.stat().st_size - 4096))
    await bus.publish(message("new"))
    assert "new" in [c.message.id for c in await bus.claim(["tasks.a"], "workers", 500)]
    assert await bus.publish(message("newer"))
    await bus.aclose()


async def test_a_file_that_another_process_replaced_is_followed(tmp_path):
    path = tmp_path / "bus.db"
    one = SqliteBus(path, SystemClock())
    assert await one.claim(["tasks.a"], "workers") == ()
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    two = SqliteBus(path, SystemClock())
    await two.publish(message("m"))
    assert await one.wait(["tasks.a"], 10)
    (claim,) = await one.claim(["tasks.a"], "workers")
    await two.settle(claim)
    assert await one.depth(["tasks.a"]) == 0
    for bus in (one, two):
        await bus.aclose()


async def test_a_locked_file_does_not_stop_the_loop(tmp_path):
    bus = SqliteBus(tmp_path / "bus.db", FakeClock())
    await bus.publish(message("m0", "news"))
    rival = sqlite3.connect(tmp_path / "bus.db", isolation_level=None)
    rival.execute("BEGIN IMMEDIATE")
    publishing = asyncio.ensure_future(bus.publish(message("m1", "news")))
    begin = time.monotonic()
    for _ in range(100):
        await asyncio.sleep(0)
    assert not publishing.done()
    assert time.monotonic() - begin < 1, "the loop goes on"
    assert len(await bus.read("news")) == 1
    rival.execute("COMMIT")
    rival.close()
    async with asyncio.timeout(10):
        assert await publishing
    assert len(await bus.read("news")) == 2
    await bus.aclose()


async def test_old_messages_go_with_their_age(tmp_path):
    clock = FakeClock()
    bus = SqliteBus(tmp_path / "bus.db", clock, rules=BusRules(keep_s=100))
    assert await bus.claim(["tasks.a"], "workers") == ()
    await bus.publish(message("old", "runs.1"))
    await bus.publish(message("work"))
    await clock.advance(200)
    for n in range(128):
        await bus.publish(message(f"m{n}", "runs.2"))
    assert await bus.read("runs.1") == ()
    assert [c.message.id for c in await bus.claim(["tasks.a"], "workers", 9)] == ["work"]
    await bus.aclose()


async def test_waiting_costs_next_to_nothing(tmp_path):
    """Fifty waiters share one look at the file per poll."""
    bus = SqliteBus(tmp_path / "bus.db", SystemClock(), rules=BusRules(poll_s=0.01))
    for n in range(50):
        await bus.read(f"runs.{n}")
    waiters = [asyncio.ensure_future(bus.wait([f"runs.{n}"], 60)) for n in range(50)]
    await asyncio.sleep(0.01)
    before = time.process_time()
    await asyncio.gather(asyncio.wait(waiters, timeout=0.5))
    assert time.process_time() - before < 0.25
    for waiter in waiters:
        waiter.cancel()
    await asyncio.gather(*waiters, return_exceptions=True)
    await bus.aclose()


async def test_a_cache_outlives_the_process_and_damage(tmp_path):
    cache = SqliteCache(tmp_path / "cache.db", FakeClock())
    await cache.put("a", b"x", ttl_s=10)
    await cache.aclose()
    cache = SqliteCache(tmp_path / "cache.db", FakeClock())
    assert await cache.get("a") == b"x"
    await cache.aclose()
    (tmp_path / "cache.db").write_bytes(b"garbage" * 100)
    cache = SqliteCache(tmp_path / "cache.db", FakeClock())
    assert await cache.get("a") is None
    await cache.put("a", b"y", ttl_s=10)
    assert await cache.get("a") == b"y"
    await cache.aclose()


def test_a_folder_in_the_way(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreReadOnly):
        ScratchFile(tmp_path / "file" / "bus.db", SCHEMA, version=1)


async def test_a_failed_transaction_leaves_nothing(tmp_path):
    file = ScratchFile(tmp_path / "notes.db", SCHEMA, version=1)

    def fail(connection):
        connection.execute("INSERT INTO notes VALUES (1)")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await file.write(fail)
    assert file.read(lambda c: c.execute("SELECT count(*) FROM notes").fetchone()) == (0,)
    await file.write(lambda c: c.execute("INSERT INTO notes VALUES (2)"))
    assert file.read(lambda c: c.execute("SELECT n FROM notes").fetchall()) == [(2,)]
    file.close()
