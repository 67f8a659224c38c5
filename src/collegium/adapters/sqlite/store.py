"""Opens a store: one SQLite file with journals, records and blobs."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from collegium.adapters.clock import SystemClock
from collegium.adapters.encryption.file_key import FileKey
from collegium.adapters.encryption.plain import PLAIN
from collegium.adapters.folders import make_folder
from collegium.adapters.rows import Entropy
from collegium.adapters.sqlite.archive import SqliteArchive
from collegium.adapters.sqlite.blobs import BlobPart, SqliteBlobs
from collegium.adapters.sqlite.connection import connect, store_error
from collegium.adapters.sqlite.driver import open_file
from collegium.adapters.sqlite.journal import SqliteJournal
from collegium.adapters.sqlite.journal_part import JournalPart
from collegium.adapters.sqlite.reader import Reader
from collegium.adapters.sqlite.records import SqliteRecords
from collegium.adapters.sqlite.upgrade import SCHEMA, upgrade
from collegium.adapters.sqlite.writer import QUICK_S, Writer
from collegium.adapters.transfer import require_whole
from collegium.domain.chain import PUBLIC_KEY
from collegium.domain.errors import StoreCorrupt, StoreError, StoreReadOnly
from collegium.ports import Clock, Sealer


class StoreMeta(NamedTuple):
    """What a store says of itself: ``id`` is its own for ever, ``epoch`` grows with every restore from a backup."""

    id: str
    epoch: int


class SqliteStore:
    """An open store file; ``journal``, ``records`` and ``blobs`` share its one writer.

    Attributes:
        meta: Id and epoch of the store.
        writer: The group-committing writer; ``writer.stats`` counts commits and items.
    """

    def __init__(
        self,
        path: Path,
        meta: StoreMeta,
        *,
        writer: Writer,
        clock: Clock,
        chain_key: bytes,
        entropy: Entropy,
        sealer: Sealer = PLAIN,
        key: FileKey | None = None,
    ) -> None:
        self.path = path
        self.meta = meta
        self.writer = writer
        self._reader = Reader(path, key)
        blobs = BlobPart(sealer)
        events = JournalPart(blobs, clock=clock, chain_key=chain_key, entropy=entropy, sealer=sealer)
        writer.join(events)
        writer.join(blobs)
        self.journal = SqliteJournal(writer, self._reader, events, chain_key=chain_key, sealer=sealer)
        self.records = SqliteRecords(writer, self._reader, blobs, sealer)
        self.blobs = SqliteBlobs(writer, self._reader, blobs, clock=clock, sealer=sealer)
        self.archive = SqliteArchive(writer, self._reader, events, chain_key=chain_key, sealer=sealer)

    @property
    def commits(self) -> tuple[int, int]:
        """Transactions of this process that were committed, and those that failed."""
        return self.writer.stats.commits, self.writer.stats.failures

    def close(self, *, drain: bool = True) -> None:
        """Writes what waits (without ``drain`` it is given up), then closes the file; twice is harmless. Blocks."""
        self.writer.close(drain=drain)
        self._reader.close()

    async def aclose(self) -> None:
        """``close`` without blocking the event loop."""
        await asyncio.to_thread(self.close)


def open_store(
    path: Path,
    *,
    clock: Clock | None = None,
    chain_key: bytes = PUBLIC_KEY,
    entropy: Entropy = os.urandom,
    linger_s: float = 0.01,
    busy_timeout_s: float = 5.0,
    quick_s: float = QUICK_S,
    is_filling: bool = False,
    sealer: Sealer = PLAIN,
    key: FileKey | None = None,
) -> SqliteStore:
    """Opens the store at ``path``, made if it is missing, its folder too.

    Args:
        path: The file; SQLite keeps ``-wal`` and ``-shm`` files beside it.
        clock: Tells the age of blobs; the machine's by default.
        chain_key: Key of the runs' chains; without one they detect accidents only.
        entropy: Source of salts and of the store's id.
        linger_s: How long an append that nobody waits for may wait for company.
        busy_timeout_s: How long to wait for another process that is writing.
        quick_s: As long as commits take no longer, the event loop may do them itself; 0 for never.
        is_filling: Whether this is the transfer that fills it, which others have to wait for.
        sealer: Encrypts what is stored.
        key: The file's key, where it is encrypted as a whole.

    Raises:
        StoreCorrupt: the file is damaged, no store, or made by a newer version of collegium.
        StoreReadOnly: the file or its folder may not be written.
        StoreFull: there is no space left to make it.
        StoreUnavailable: it is locked, or its disk fails.
    """
    _make_folder(path)
    meta = _prepared(path, key, entropy=entropy, busy_timeout_s=busy_timeout_s, is_filling=is_filling)
    writer = Writer(path, key, linger_s=linger_s, busy_timeout_s=busy_timeout_s, quick_s=quick_s)
    try:
        return SqliteStore(
            path,
            meta,
            writer=writer,
            clock=clock or SystemClock(),
            chain_key=chain_key,
            entropy=entropy,
            sealer=sealer,
            key=key,
        )
    except StoreError:
        writer.close()
        raise


def version_of(path: Path, key: FileKey | None = None) -> int:
    """The version of the tables at ``path``, 0 where there is no store; nothing is changed. Raises ``StoreError``."""
    if not path.exists():
        return 0
    try:
        connection = open_file(path, key, timeout_s=5.0, is_read_only=True)
        try:
            return 0 if _meta(connection, path) is None else _schema(connection)
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise store_error(error, path) from error


def damage_in(path: Path, key: FileKey | None = None) -> str:
    """What SQLite finds wrong with the file; empty where nothing is."""
    try:
        connection = open_file(path, key, timeout_s=5.0, is_read_only=True)
        try:
            rows = [str(row[0]) for row in connection.execute("PRAGMA quick_check(5)")]
        finally:
            connection.close()
    except sqlite3.Error as error:
        return str(error)
    return "" if rows == ["ok"] else "; ".join(rows)


def _make_folder(path: Path) -> None:
    try:
        make_folder(path.parent)
    except OSError as error:
        raise StoreReadOnly(f"{path.parent} cannot be made: {error.strerror}", path=str(path)) from error
    if path.exists() and not path.is_file():
        kind = "a folder" if path.is_dir() else "no regular file"
        raise StoreCorrupt(f"{path} is {kind}: a store is one file, give the path of one", path=str(path))
    for place in (path.parent, path):
        if place.exists() and not os.access(place, os.W_OK):
            raise StoreReadOnly(f"{place} may not be written: a store needs its file and its folder", path=str(path))


def _prepared(
    path: Path, key: FileKey | None, *, entropy: Entropy, busy_timeout_s: float, is_filling: bool
) -> StoreMeta:
    try:
        connection = connect(path, key, synchronous="FULL", busy_timeout_s=busy_timeout_s)
    except sqlite3.Error as error:
        raise store_error(error, path) from error
    try:
        meta = _meta(connection, path)
        if meta is None:
            return _create(connection, path, entropy)
        if _schema(connection) < SCHEMA:
            upgrade(connection)
        if not is_filling:
            require_whole(dict(connection.execute("SELECT key, value FROM meta")), str(path))
        return meta
    except sqlite3.Error as error:
        raise store_error(error, path) from error
    finally:
        connection.close()


def _meta(connection: sqlite3.Connection, path: Path) -> StoreMeta | None:
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if "meta" not in tables:
        if "events" in tables or "heads" in tables:
            raise StoreCorrupt(f"{path} is an SQLite file, but no store of collegium: choose another", path=str(path))
        return None
    meta = dict(connection.execute("SELECT key, value FROM meta"))
    try:
        schema, found = int(meta["schema"]), StoreMeta(meta["store_id"], int(meta["epoch"]))
    except (KeyError, ValueError) as error:
        raise StoreCorrupt(f"{path} has no readable meta table: restore it from a backup", path=str(path)) from error
    if schema > SCHEMA:
        raise StoreCorrupt(
            f"{path} has tables of version {schema} and this collegium knows up to {SCHEMA}: upgrade collegium",
            path=str(path),
            schema=schema,
        )
    return found


def _schema(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone()[0])


def _create(connection: sqlite3.Connection, path: Path, entropy: Entropy) -> StoreMeta:
    """Makes the tables, unless another process has made them meanwhile."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        meta = _meta(connection, path)
        if meta is None:
            meta = StoreMeta(entropy(16).hex(), 1)
            schema = resources.files(__package__).joinpath("schema.sql").read_text(encoding="utf-8")
            for statement in _statements(schema):
                connection.execute(statement)
            values = {"schema": str(SCHEMA), "store_id": meta.id, "epoch": str(meta.epoch)}
            connection.executemany("INSERT INTO meta VALUES (?, ?)", values.items())
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
    return meta


def _statements(script: str) -> list[str]:
    """The statements of a script; ``executescript`` would commit the open transaction first."""
    lines = (line.partition("--")[0] for line in script.splitlines())
    return [statement for statement in "\n".join(lines).split(";") if statement.strip()]
