"""Wrapped data keys in a store's SQLite file."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from collegium.adapters.encryption.file_key import FileKey
from collegium.adapters.sealed import DATA_KEY
from collegium.adapters.sqlite.connection import connect, store_error

Connect = Callable[[], sqlite3.Connection]
_KEYS = "SELECT tenant, key, value FROM records WHERE kind = ? AND tenant = ? ORDER BY key"
_TENANTS = "SELECT DISTINCT tenant FROM records WHERE kind = ? AND tenant <> '~' ORDER BY tenant"
_ADD = "INSERT INTO records (kind, tenant, key, version, value) VALUES (?, ?, ?, 1, ?) ON CONFLICT DO NOTHING"
_CHANGE = "UPDATE records SET value = ?, version = version + 1 WHERE kind = ? AND tenant = ? AND key = ?"
_DROP = "DELETE FROM records WHERE kind = ? AND tenant = ?"
_DROP_SEALED = "DELETE FROM records WHERE tenant = ? AND key_version > 0"


class SqliteKeyShelf:
    """Implements ``KeyShelf``. The file and its tables exist."""

    def __init__(self, path: Path, key: FileKey | None = None) -> None:
        self._path = path
        self._key = key
        self._lock = threading.Lock()
        self._open: sqlite3.Connection | None = None

    def keys(self, tenants: Sequence[str]) -> list[tuple[str, str, dict[str, Any]]]:
        """All rows of these tenants."""
        with self._connection() as c:
            found = [row for tenant in tenants for row in c.execute(_KEYS, (DATA_KEY, tenant)).fetchall()]
        return [(tenant, key, msgspec.json.decode(value)) for tenant, key, value in found]

    def tenants(self) -> list[str]:
        """All tenants that have, or had, keys."""
        with self._connection() as c:
            return [tenant for (tenant,) in c.execute(_TENANTS, (DATA_KEY,))]

    def add(self, tenant: str, key: str, value: dict[str, Any]) -> bool:
        """Stores a row; False where there is one already."""
        with self._connection() as c:
            return c.execute(_ADD, (DATA_KEY, tenant, key, _text(value))).rowcount > 0

    def change(self, tenant: str, key: str, value: dict[str, Any]) -> None:
        """Replaces a row that is there."""
        with self._connection() as c:
            c.execute(_CHANGE, (_text(value), DATA_KEY, tenant, key))

    def drop(self, tenant: str, keep: str, value: dict[str, Any]) -> int:
        """Leaves only ``keep``, and no record that is sealed.

        What is removed is overwritten in the file, and in the log beside it.
        """
        with self._connection() as c:
            c.execute("PRAGMA secure_delete=ON")
            c.execute("BEGIN IMMEDIATE")
            try:
                count = c.execute(_DROP, (DATA_KEY, tenant)).rowcount
                c.execute(_ADD, (DATA_KEY, tenant, keep, _text(value)))
                c.execute(_DROP_SEALED, (tenant,))
                c.execute("COMMIT")
            finally:
                if c.in_transaction:
                    c.execute("ROLLBACK")
            c.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return count

    def close(self) -> None:
        """Closes the connection; twice is harmless."""
        with self._lock:
            if self._open is not None:
                self._open.close()
                self._open = None

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                if self._open is None:
                    self._open = connect(self._path, self._key, synchronous="FULL", busy_timeout_s=10.0)
                yield self._open
            except sqlite3.Error as error:
                raise store_error(error, self._path) from error


def _text(value: dict[str, Any]) -> str:
    return msgspec.json.encode(value).decode()
