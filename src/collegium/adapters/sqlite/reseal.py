"""Rows of a store's SQLite file that are sealed again, in small transactions beside whoever works on it."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from collegium.adapters.encryption.file_key import FileKey
from collegium.adapters.encryption.rotation import Change, Place
from collegium.adapters.sqlite.connection import connect, store_error

# The key, which puts rows in order, comes first; then tenant and version.
_PLACES: Final = {
    "events": (
        "SELECT pos, run, seq, tenant, key_version FROM events WHERE pos > ? AND (? IS NULL OR tenant = ?) "
        "AND body IS NOT NULL ORDER BY pos LIMIT ?"
    ),
    "blobs": (
        "SELECT tenant, sha256, tenant, key_version FROM blobs WHERE (tenant, sha256) > (?, ?) "
        "AND (? IS NULL OR tenant = ?) ORDER BY tenant, sha256 LIMIT ?"
    ),
    "records": (
        "SELECT kind, tenant, key, tenant, key_version FROM records WHERE (kind, tenant, key) > (?, ?, ?) "
        "AND (? IS NULL OR tenant = ?) ORDER BY kind, tenant, key LIMIT ?"
    ),
}
_FIRST: Final[dict[str, tuple[Any, ...]]] = {"events": (-1,), "blobs": ("", ""), "records": ("", "", "")}
_VALUE: Final = {
    "events": "SELECT body FROM events WHERE pos = ? AND run = ? AND seq = ?",
    "blobs": "SELECT data FROM blobs WHERE tenant = ? AND sha256 = ?",
    "records": "SELECT value FROM records WHERE kind = ? AND tenant = ? AND key = ?",
}
_REPLACE: Final = {
    "events": "UPDATE events SET body = ?, key_version = ? WHERE pos = ? AND run = ? AND seq = ? AND body = ?",
    "blobs": "UPDATE blobs SET data = ?, key_version = ? WHERE tenant = ? AND sha256 = ? AND data = ?",
    "records": "UPDATE records SET value = ?, key_version = ? WHERE kind = ? AND tenant = ? AND key = ? AND value = ?",
}


class SqliteRows:
    """Implements ``Rows``. The file and its tables exist."""

    def __init__(self, path: Path, key: FileKey | None = None) -> None:
        self._path = path
        try:
            self._connection = connect(path, key, synchronous="FULL", busy_timeout_s=30.0)
        except sqlite3.Error as error:
            raise store_error(error, path) from error

    def places(self, table: str, after: tuple[Any, ...] | None, limit: int, tenant: str | None) -> list[Place]:
        """The next rows by key."""
        start = _FIRST[table] if after is None else after[: len(_FIRST[table])]
        rows = self._rows(_PLACES[table], (*start, tenant, tenant, limit))
        return [Place(tuple(row[:-2]), row[-2], row[-1]) for row in rows]

    def value(self, table: str, key: tuple[Any, ...]) -> bytes | None:
        """What the row holds."""
        rows = self._rows(_VALUE[table], key)
        value = rows[0][0] if rows else None
        return value.encode() if isinstance(value, str) else value

    def replace(self, table: str, changes: Sequence[Change]) -> int:
        """Replaces those that are still what they were."""
        is_text = table == "records"
        count = 0
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                for change in changes:
                    new: bytes | str = change.new.decode() if is_text else change.new
                    old: bytes | str = change.old.decode() if is_text else change.old
                    values = (new, change.version, *change.key, old)
                    count += self._connection.execute(_REPLACE[table], values).rowcount
                self._connection.execute("COMMIT")
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise store_error(error, self._path) from error
        return count

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()

    def _rows(self, query: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        try:
            return self._connection.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise store_error(error, self._path) from error
