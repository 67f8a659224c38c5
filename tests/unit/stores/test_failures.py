"""Disks that are full, stores that are read-only, damaged, too new or locked: what is said, and what is left."""

import asyncio
import os
import resource
import sqlite3
import subprocess
from contextlib import contextmanager

import pytest

from collegium.adapters.sqlite.blobs import OWED_LIMIT_BYTES
from collegium.adapters.sqlite.store import open_store
from collegium.domain.errors import Fenced, StoreCorrupt, StoreFull, StoreReadOnly, StoreUnavailable
from collegium.domain.head import Fence
from collegium.domain.record import Record
from collegium.testing.conformance.drafts import begin, decide, lapsed, noted, ready, started

ONE = Fence(task="t", attempt=1)


@contextmanager
def no_room(size_bytes: int):
    """No file of this process can grow beyond the size: as a full disk, for whoever writes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 2 MB of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a small disk needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


async def test_a_full_disk_refuses_reads_on_and_recovers(small_disk):
    store = open_store(small_disk / "store.db")
    await begin(store.journal, "run_a")
    filler = small_disk / "filler"
    with pytest.raises(OSError, match="No space"):
        filler.write_bytes(b"x" * 4_000_000)
    with pytest.raises(StoreFull, match=r"store\.db.*free some"):
        for _ in range(100):  # what SQLite has already reserved is used up first
            await store.journal.append("run_a", [noted("x" * 50_000)]).durable()
    before = await store.journal.read("run_a")
    assert await store.journal.verify("run_a") is None
    with pytest.raises(StoreFull):
        await store.records.put(Record(kind="k", tenant="acme", key="a", value={"x": "y" * 100_000}))
    filler.unlink()
    await store.journal.append("run_a", [noted("after")]).durable()
    assert (await store.journal.read("run_a"))[:-1] == before
    assert await store.journal.verify("run_a") is None
    await store.aclose()


async def test_no_room_fails_the_batch_and_the_writer_goes_on(tmp_path):
    store = open_store(tmp_path / "store.db")
    await begin(store.journal, "run_a")
    with no_room(300_000):
        large = store.journal.append("run_a", [noted("x" * 500_000)])
        small = store.journal.append("run_a", [noted("small")])
        for receipt in (large, small):
            with pytest.raises(StoreFull, match="no space left"):
                await receipt.durable()
        assert len(await store.journal.read("run_a")) == 1
    await store.journal.append("run_a", [noted("after")]).durable()
    assert [event.seq for event in await store.journal.read("run_a")] == [1, 2]
    assert store.writer.stats.failures == 1
    await store.aclose()


async def test_an_effect_is_never_stored_without_its_cause(tmp_path):
    """An attempt whose append was lost to a full disk appends nothing more; a decision goes on with the next one."""
    store = open_store(tmp_path / "store.db")
    await begin(store.journal, "run_a")
    await decide(store.journal, "run_a", [ready("t", 1), started("t", 1)])
    with no_room(300_000):
        cause = store.journal.append("run_a", [noted("x" * 500_000)], fence=ONE)
        with pytest.raises(StoreFull):
            await cause.durable()
    with pytest.raises(Fenced, match="was not stored"):
        await store.journal.append("run_a", [noted("effect")], fence=ONE).durable()
    await store.journal.append("run_a", [noted("of nobody")]).durable()
    await decide(store.journal, "run_a", [lapsed("t", 1), ready("t", 2)], expected=3)
    await store.journal.append("run_a", [noted("goes on")], fence=Fence(task="t", attempt=2)).durable()
    await store.aclose()


async def test_an_event_is_never_stored_without_its_blob(tmp_path):
    """A blob whose put failed comes with the next commit, however much later that is."""
    store = open_store(tmp_path / "store.db")
    await begin(store.journal, "run_a")
    data = os.urandom(500_000)
    with no_room(300_000):
        name = store.blobs.put("acme", data)
        with pytest.raises(StoreFull):
            await store.blobs.flush()
        with pytest.raises(StoreFull):
            await store.blobs.flush()
    await store.journal.append("run_a", [noted(name)]).durable()
    assert await store.blobs.get("acme", name) == data
    await store.aclose()


async def test_blobs_are_not_hoarded_for_ever(tmp_path):
    store = open_store(tmp_path / "store.db")
    with no_room(300_000):
        names = [store.blobs.put("acme", bytes([n]) * (OWED_LIMIT_BYTES // 2 + 1)) for n in range(2)]
        with pytest.raises(StoreFull):
            await store.blobs.flush()
        with pytest.raises(StoreFull):
            store.blobs.put("acme", b"one more")
    await store.blobs.flush()
    assert store.blobs.put("acme", b"one more")
    assert len(await store.blobs.get("acme", names[1])) == OWED_LIMIT_BYTES // 2 + 1
    await store.aclose()


async def test_a_store_that_became_read_only_still_reads(tmp_path):
    store = open_store(tmp_path / "store.db")
    await begin(store.journal, "run_a")
    await store.aclose()
    store = open_store(tmp_path / "store.db")
    real = store.writer._write

    def write(items):
        if store.writer._connection is not None:
            store.writer._connection.execute("PRAGMA query_only=1")
        real(items)

    await store.journal.append("run_a", [noted(1)]).durable()
    store.writer._write = write
    with pytest.raises(StoreReadOnly, match=r"store\.db may not be written"):
        await store.journal.append("run_a", [noted(2)]).durable()
    assert len(await store.journal.read("run_a")) == 2
    await store.aclose()


def test_a_read_only_folder_is_said_at_once(small_disk):
    open_store(small_disk / "store.db").close()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    for name in ("store.db", "other.db", "sub/store.db"):
        with pytest.raises(StoreReadOnly, match=r"may not be written|cannot be made"):
            open_store(small_disk / name)


def test_a_file_in_the_way_of_the_folder(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreReadOnly, match="cannot be made"):
        open_store(tmp_path / "file" / "store.db")


def test_missing_folders_are_made(tmp_path):
    open_store(tmp_path / "a" / "b" / "store.db").close()
    assert (tmp_path / "a" / "b" / "store.db").exists()


@pytest.mark.parametrize(
    "content", [b"not a database, " * 1000, os.urandom(8192), b"SQLite format 3\x00" + b"\xff" * 4080]
)
def test_garbage_is_no_store(tmp_path, content):
    (tmp_path / "store.db").write_bytes(content)
    with pytest.raises(StoreCorrupt, match=r"store\.db.*backup"):
        open_store(tmp_path / "store.db")
    assert (tmp_path / "store.db").read_bytes() == content, "evidence is left alone"


def test_an_empty_file_becomes_a_store(tmp_path):
    (tmp_path / "store.db").touch()
    open_store(tmp_path / "store.db").close()
    open_store(tmp_path / "store.db").close()


async def test_a_truncated_store_is_said_to_be_damaged(tmp_path):
    store = open_store(tmp_path / "store.db")
    for n in range(20):
        await begin(store.journal, f"run_{n}", notes=20)
    await store.aclose()
    size = (tmp_path / "store.db").stat().st_size
    os.truncate(tmp_path / "store.db", size // 2)

    async def use():
        store = open_store(tmp_path / "store.db")
        try:
            for n in range(20):
                await store.journal.read(f"run_{n}")
        finally:
            await store.aclose()

    with pytest.raises(StoreCorrupt, match=r"store\.db is damaged"):
        await use()


def test_another_database_is_no_store(tmp_path):
    connection = sqlite3.connect(tmp_path / "store.db")
    connection.execute("CREATE TABLE events (x)")
    connection.close()
    with pytest.raises(StoreCorrupt, match="no store of collegium"):
        open_store(tmp_path / "store.db")


@pytest.mark.parametrize(
    ("statement", "text"),
    [
        ("UPDATE meta SET value = '99' WHERE key = 'schema'", "version 99 .* upgrade"),
        ("UPDATE meta SET value = 'x' WHERE key = 'schema'", "no readable meta"),
        ("DELETE FROM meta WHERE key = 'store_id'", "no readable meta"),
    ],
)
def test_a_store_of_another_version(tmp_path, statement, text):
    open_store(tmp_path / "store.db").close()
    with sqlite3.connect(tmp_path / "store.db") as connection:
        connection.execute(statement)
    connection.close()
    with pytest.raises(StoreCorrupt, match=text):
        open_store(tmp_path / "store.db")


def test_a_store_keeps_its_name(tmp_path):
    first = open_store(tmp_path / "store.db", entropy=lambda n: b"\x01" * n)
    second = open_store(tmp_path / "store.db")
    other = open_store(tmp_path / "other.db")
    assert first.meta == second.meta == ("01" * 16, 1)
    assert other.meta.id != first.meta.id
    for store in (first, second, other):
        store.close()


async def test_a_locked_store_is_unavailable_and_then_not(tmp_path):
    store = open_store(tmp_path / "store.db", busy_timeout_s=0.05)
    await begin(store.journal, "run_a")
    rival = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
    rival.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="locked by another process"):
        await store.journal.append("run_a", [noted(1)]).durable()
    assert len(await store.journal.read("run_a")) == 1
    rival.execute("ROLLBACK")
    rival.close()
    await store.journal.append("run_a", [noted(2)]).durable()
    await store.aclose()


async def test_a_closed_store_says_so(tmp_path):
    store = open_store(tmp_path / "store.db")
    await begin(store.journal, "run_a")
    await store.aclose()
    await store.aclose()
    for call in (
        store.journal.append("run_a", [noted(1)]).durable(),
        store.journal.read("run_a"),
        store.journal.scan(),
        store.blobs.flush(),
        store.records.get("k", "acme", "a"),
    ):
        with pytest.raises(StoreUnavailable, match="closed"):
            await call


async def test_many_stores_open_the_same_new_file(tmp_path):
    stores = await asyncio.gather(*(asyncio.to_thread(open_store, tmp_path / "store.db") for _ in range(6)))
    assert len({store.meta for store in stores}) == 1
    for store in stores:
        store.close()
