"""SQLite files that are encrypted as a whole: their keys, their bytes while they are used, and their errors."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

import collegium
from collegium.adapters.encryption.aes_gcm import AesKek
from collegium.adapters.encryption.file_key import FileKey, file_key, key_place, rewrap_file_key
from collegium.adapters.sqlite.bus import SqliteBus
from collegium.adapters.sqlite.cache import SqliteCache
from collegium.adapters.sqlite.connection import connect
from collegium.adapters.sqlite.driver import open_file
from collegium.adapters.sqlite.index import SqliteIndex
from collegium.adapters.sqlite.store import damage_in, open_store, version_of
from collegium.domain.errors import StoreCorrupt, StoreUnavailable, UsageError
from collegium.domain.message import Message
from collegium.domain.record import Record
from collegium.testing.clock import FakeClock
from collegium.testing.conformance.drafts import begin
from collegium.testing.conformance.index import chunk

KEY, OTHER = FileKey(b"f" * 32), FileKey(b"g" * 32)
ONE, TWO = AesKek(b"1" * 32, source="one"), AesKek(b"2" * 32, source="two")


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_file()]


def test_a_file_key_is_made_once_and_wrapped(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    key = file_key(path, [ONE])
    assert file_key(path, [ONE]).pragma == key.pragma
    assert bytes.fromhex(key.pragma.split("'")[1]) not in key_place(path).read_bytes()
    assert key_place(path).stat().st_mode & 0o777 == 0o600
    assert key.pragma.split("'")[1] not in repr(key)
    with pytest.raises(UsageError, match="configure the one it was encrypted with"):
        file_key(path, [TWO])
    assert rewrap_file_key(path, [TWO, ONE])
    assert not rewrap_file_key(path, [TWO, ONE])
    assert file_key(path, [TWO]).pragma == key.pragma
    assert [p.name for p in tmp_path.iterdir()] == ["store.db.key"], "no draft stays"
    key_place(path).write_text("{}")
    with pytest.raises(StoreCorrupt, match="damaged"):
        file_key(path, [TWO])


def test_one_place_opens_files() -> None:
    """What opens a file elsewhere would open an encrypted one without its key."""
    root = Path(collegium.__file__).parent
    found = {path.name for path in root.rglob("*.py") if "sqlite3.connect" in path.read_text(encoding="utf-8")}
    assert found == {"driver.py"}


async def test_nothing_is_in_plain_while_it_is_used(tmp_path: Path) -> None:
    secret = "4711 is the secret of the vault"
    store = open_store(tmp_path / "store.db", key=KEY)
    cache = SqliteCache(tmp_path / "cache.db", FakeClock(), key=KEY)
    index = SqliteIndex(tmp_path / "index.db", KEY)
    bus = SqliteBus(tmp_path / "bus.db", FakeClock(), key=KEY)
    await begin(store.journal, "run_secretname")
    await store.records.put(Record(kind="secretkind", tenant="secrettenant", key="secretkey", value={"value": secret}))
    store.blobs.put("secrettenant", secret.encode() * 1_000)
    await store.blobs.flush()
    await cache.put("secretcached", secret.encode(), ttl_s=60)
    await index.upsert("secretspace", [chunk("secretchunk", text=secret)], None)
    assert await index.search("secretspace", text="vault")
    await bus.publish(Message(id="secretid", topic="secrettopic", tenant="secrettenant", body={"a": secret}))
    files = files_in(tmp_path)
    assert {path.name for path in files} >= {"store.db-wal", "store.db-shm", "index.db-wal", "cache.db-wal", "bus.db"}
    for path in files:
        found = path.read_bytes()
        for word in (b"secret", b"vault", b"4711", b"CREATE TABLE", b"SQLite format"):
            assert word not in found, path
    for one in (store, cache, index, bus):
        await one.aclose()


async def test_another_key_and_none_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    await open_store(path, key=KEY).aclose()
    assert version_of(path, KEY) > 0
    assert damage_in(path, KEY) == ""
    for key in (OTHER, None):
        with pytest.raises(StoreCorrupt):
            open_store(path, key=key)
        assert damage_in(path, key) == "file is not a database"
    key_place(path).write_text("of another one")
    with pytest.raises(StoreCorrupt, match=r"does not open with the key in .*store\.db\.key"):
        open_store(path, key=OTHER)
    await open_store(path, key=KEY).aclose()


async def test_files_that_can_be_made_anew_are(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "index.db"
    key_place(path).touch()
    for key in (None, KEY, OTHER, None):
        index = SqliteIndex(path, key)
        assert not await index.has("space", ["d"])
        await index.upsert("space", [chunk("c", document="d", text="cats")], None)
        assert await index.has("space", ["d"])
        await index.aclose()
        cache = SqliteCache(tmp_path / "cache.db", FakeClock(), key=key)
        assert await cache.get("a") is None
        await cache.put("a", b"b", ttl_s=9)
        await cache.aclose()
    assert caplog.text.count("made anew") == 6


async def test_errors_are_those_of_sqlite(tmp_path: Path) -> None:
    """Both drivers in one process, and who catches errors need not know which it is."""
    codes = {}
    for name, key in (("plain", None), ("encrypted", KEY)):
        path = tmp_path / name
        with (
            closing(connect(path, key, synchronous="FULL", busy_timeout_s=0)) as one,
            closing(connect(path, key, synchronous="FULL", busy_timeout_s=0)) as two,
        ):
            one.execute("CREATE TABLE t (a INTEGER PRIMARY KEY) STRICT")
            one.executemany("INSERT INTO t VALUES (?)", [(1,), (2,)])
            found: list[tuple[type, int]] = []
            for statement in ("INSERT INTO t VALUES (1)", "nonsense", "SELECT abs(-9223372036854775808)"):
                with pytest.raises(sqlite3.Error) as caught:
                    one.execute(statement).fetchall()
                found.append((type(caught.value), caught.value.sqlite_errorcode & 0xFF))
            one.execute("BEGIN IMMEDIATE")
            with pytest.raises(sqlite3.OperationalError, match="locked") as caught_busy:
                two.execute("BEGIN IMMEDIATE")
            assert caught_busy.value.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            one.rollback()
            with pytest.raises(sqlite3.OperationalError), one:
                one.executescript("nonsense")
            assert [row for (row,) in one.execute("SELECT a FROM t ORDER BY a")] == [1, 2]
        with pytest.raises(sqlite3.ProgrammingError):
            one.execute("SELECT 1")
        codes[name] = found
    assert codes["plain"] == codes["encrypted"]
    store = open_store(tmp_path / "store.db", key=KEY)
    store.close()
    with pytest.raises(StoreUnavailable):
        await store.records.get("a", "b", "c")


async def test_what_is_rescued_from_a_lost_file_is_encrypted_too(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    store = open_store(path, key=KEY)
    await begin(store.journal, "run_1")
    path.unlink()
    with pytest.raises(StoreCorrupt, match="rescued1"):
        await begin(store.journal, "run_2")
    await store.aclose()
    rescued = tmp_path / "store.db.rescued1"
    assert not rescued.read_bytes().startswith(b"SQLite format 3")
    with closing(open_file(rescued, KEY, timeout_s=1, is_read_only=True)) as file:
        assert file.execute("SELECT run FROM heads").fetchone() == ("run_1",)
