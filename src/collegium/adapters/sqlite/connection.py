"""Connections to SQLite files, and SQLite's errors in the words of collegium."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from collegium.adapters.encryption.file_key import FileKey, key_place
from collegium.adapters.sqlite.driver import open_file
from collegium.domain.errors import StoreCorrupt, StoreError, StoreFull, StoreReadOnly, StoreUnavailable

_CORRUPT = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_ERROR})
_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL})
# A write that stops short for another reason than ENOSPC (quota, file size limit) is an I/O error to SQLite.
_NO_ROOM = frozenset({sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE, sqlite3.SQLITE_IOERR_TRUNCATE})


def connect(
    path: Path, key: FileKey | None = None, *, synchronous: str, busy_timeout_s: float, page_bytes: int = 4_096
) -> sqlite3.Connection:
    """A connection in WAL mode that leaves transactions to its user and may be passed between threads.

    ``page_bytes`` is for a file that is new and in plain: encrypted ones have pages of 4,096 bytes, since everybody who
    opens one has to know it before he can read what it says of itself.
    """
    connection = open_file(path, key, timeout_s=busy_timeout_s)
    try:
        if key is None:
            connection.execute(f"PRAGMA page_size={page_bytes}")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(f"PRAGMA synchronous={synchronous}")
    except BaseException:
        connection.close()
        raise
    return connection


def store_error(error: sqlite3.Error, path: Path) -> StoreError:
    """What happened to the file, and what to do about it."""
    code = getattr(error, "sqlite_errorcode", None)
    fields: dict[str, object] = {"path": str(path), "sqlite": getattr(error, "sqlite_errorname", type(error).__name__)}
    if isinstance(error, sqlite3.ProgrammingError):
        return StoreUnavailable(f"{path} is closed", **fields)
    if code is None:
        return StoreUnavailable(f"{path} failed: {error}", **fields)
    primary = code & 0xFF
    if primary == sqlite3.SQLITE_FULL or code in _NO_ROOM:
        return StoreFull(
            f"no space left for {path}: free some on its disk (or raise its quota or file size limit) and try again; "
            "nothing that was acknowledged is lost",
            **fields,
        )
    if primary in {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM}:
        return StoreReadOnly(
            f"{path} may not be written: make the file, its folder and its disk writable for this user", **fields
        )
    if primary in _BUSY:
        return StoreUnavailable(f"{path} is locked by another process; try again in a moment", **fields)
    if primary == sqlite3.SQLITE_NOTADB and key_place(path).exists():
        return StoreCorrupt(_not_its_key(path), **fields)
    if primary in _CORRUPT:
        return StoreCorrupt(
            f"{path} is damaged or no store of collegium ({error}): restore it from a backup, or move it away", **fields
        )
    return StoreUnavailable(f"{path} cannot be used: {error}; check its disk, then try again", **fields)


def _not_its_key(path: Path) -> str:
    return (
        f"{path} does not open with the key in {key_place(path)}: one of them is of another store, or damaged. Restore "
        "both from the same backup, or move them both away"
    )


def insert_rows(connection: sqlite3.Connection, head: str, rows: Sequence[Sequence[Any]], tail: str = "") -> None:
    """Runs ``head VALUES (...), (...) tail`` for all rows in few, cached statements.

    ``executemany`` gives up and takes back the interpreter lock for every row, which beside a busy event loop costs far
    more than the row itself. Runs of 32, 16 and up to 8 rows keep the number of different statements small.
    """
    start = 0
    while start < len(rows):
        left = len(rows) - start
        size = 32 if left >= 32 else 16 if left >= 16 else min(left, 8)
        part = rows[start : start + size]
        values = [value for row in part for value in row]
        connection.execute(_insertion(head, len(part[0]), size, tail), values)
        start += size


@lru_cache(maxsize=256)
def _insertion(head: str, columns: int, rows: int, tail: str) -> str:
    """The statement, the same object each time: SQLite's cache of statements is asked by it."""
    holes = "(" + ",".join("?" * columns) + ")"
    return f"{head} VALUES {','.join([holes] * rows)} {tail}"


def union(selects: Iterable[str]) -> str:
    """``selects`` as one compound, each with its own ORDER BY and LIMIT."""
    return " UNION ALL ".join(f"SELECT * FROM ({select})" for select in selects)  # noqa: S608 joins constants
