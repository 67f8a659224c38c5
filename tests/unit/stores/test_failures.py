"""Disks that are full, stores that are read-only, damaged, too new or locked: what is said, and what is left."""

import asyncio
import os
import resource
import sqlite3
import subprocess
from contextlib import contextmanager

import pytest

from collegium.adapters.sqlite.connection import store_error
from collegium.adapters.sqlite.store import open_store
from collegium.domain.errors import Fenced, NotFound, StoreCorrupt, StoreFull, StoreReadOnly, StoreUnavailable
from collegium.domain.head import Fence
from collegium.domain.record import Record
from collegium.testing.conformance.drafts import begin, decide, eventually, lapsed, noted, ready, started

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
    # What SQLite has already reserved is used up first.
    receipts = [store.journal.append("run_a", [noted("x" * 50_000)]) for _ in range(100)]
    with pytest.raises(StoreFull, match=r"store\.db.*free some"):
        await receipts[-1].durable()
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


async def test_nothing_is_stored_that_names_a_lost_blob(tmp_path):
    """However much later it comes; until the blob is put again."""
    store = open_store(tmp_path / "store.db")
    await begin(store.journal, "run_a")
    data = os.urandom(500_000)
    with no_room(300_000):
        name = store.blobs.put("acme", data)
        with pytest.raises(StoreFull):
            await store.blobs.flush()
    await store.blobs.flush()  # said once
    await store.journal.append("run_a", [noted("another"), noted("f" * 64)]).durable()
    record = Record(kind="k", tenant="acme", key="a", value={"blob": name})
    with pytest.raises(StoreFull):
        await store.journal.append("run_a", [noted(name)]).durable()
    with pytest.raises(StoreFull):
        await store.records.put(record)
    with pytest.raises(NotFound):
        await store.blobs.get("acme", name)
    assert store.blobs.put("acme", data) == name
    await store.journal.append("run_a", [noted(name)]).durable()
    assert await store.blobs.get("acme", name) == data
    await store.records.put(record)
    await store.journal.append("run_a", [noted(name)]).durable()
    await store.aclose()


async def test_a_flush_tells_of_puts_that_failed_before_it(tmp_path):
    store = open_store(tmp_path / "store.db", linger_s=0.001)
    with no_room(300_000):
        store.blobs.put("acme", os.urandom(500_000))
        await eventually(lambda: _has_failed(store))
    with pytest.raises(StoreFull):
        await store.blobs.flush()
    await store.aclose()


async def _has_failed(store) -> bool:
    return store.writer.stats.failures > 0


async def test_what_no_store_could_keep_is_refused_to_its_caller(tmp_path):
    store = open_store(tmp_path / "store.db", linger_s=60)
    await begin(store.journal, "run_a")
    good = store.journal.append("run_a", [noted(1)])
    for bad in (noted("\ud800"), noted(1, task="\ud800"), noted(1, attempt=2**63), noted(1, attempt=-1)):
        with pytest.raises(ValueError, match=r"."):
            store.journal.append("run_a", [bad])
    with pytest.raises(ValueError, match=r"."):
        store.journal.append("\ud800", [noted(1)])
    with pytest.raises(ValueError, match=r"."):
        store.blobs.put("\ud800", b"x")
    with pytest.raises(ValueError, match=r"."):
        await store.records.put(Record(kind="k", tenant="acme", key="\ud800", value={}))
    with pytest.raises(ValueError, match=r"."):
        await store.records.delete("k", "\ud800", "a")
    assert len(await good.durable()) == 1
    await store.aclose()


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (sqlite3.SQLITE_FULL, StoreFull),
        (sqlite3.SQLITE_IOERR_WRITE, StoreFull),
        (sqlite3.SQLITE_IOERR_FSYNC, StoreUnavailable),
        (sqlite3.SQLITE_READONLY, StoreReadOnly),
        (sqlite3.SQLITE_READONLY_DBMOVED, StoreReadOnly),
        (sqlite3.SQLITE_BUSY, StoreUnavailable),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, StoreUnavailable),
        (sqlite3.SQLITE_LOCKED, StoreUnavailable),
        (sqlite3.SQLITE_CANTOPEN, StoreUnavailable),
        (sqlite3.SQLITE_NOMEM, StoreUnavailable),
        (sqlite3.SQLITE_CORRUPT, StoreCorrupt),
        (sqlite3.SQLITE_NOTADB, StoreCorrupt),
        (None, StoreUnavailable),
    ],
)
def test_sqlites_errors_in_the_words_of_collegium(tmp_path, code, expected):
    failure = sqlite3.OperationalError("as SQLite says")
    if code is not None:
        failure.sqlite_errorcode = code
        failure.sqlite_errorname = "SQLITE_X"
    error = store_error(failure, tmp_path / "store.db")
    assert type(error) is expected
    assert str(tmp_path / "store.db") in error.message
    assert error.retryable == (expected in {StoreFull, StoreUnavailable})


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


async def test_missing_folders_are_made_and_a_closed_store_is_one_file(tmp_path):
    store = open_store(tmp_path / "a" / "b" / "store.db")
    await begin(store.journal, "run_a")
    await store.journal.scan()
    await store.aclose()
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["store.db"]


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
