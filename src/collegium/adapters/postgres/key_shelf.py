"""Wrapped data keys in a PostgreSQL store."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final

import msgspec
import psycopg

from collegium.adapters.postgres.connection import conninfo_of, is_lost, place_of, store_error
from collegium.adapters.sealed import DATA_KEY

_KEYS: Final = "SELECT tenant, key, value FROM records WHERE kind = %s AND tenant = ANY (%s) ORDER BY tenant, key"
_TENANTS: Final = "SELECT DISTINCT tenant FROM records WHERE kind = %s AND tenant <> '~' ORDER BY tenant"
_ADD: Final = (
    "INSERT INTO records (kind, tenant, key, version, value, fields) VALUES (%s, %s, %s, 1, %s, '{}') "
    "ON CONFLICT (kind, tenant, key) DO NOTHING"
)
_CHANGE: Final = "UPDATE records SET value = %s, version = version + 1 WHERE kind = %s AND tenant = %s AND key = %s"
_DROP: Final = "DELETE FROM records WHERE kind = %s AND tenant = %s"
_DROP_SEALED: Final = "DELETE FROM records WHERE tenant = %s AND key_version > 0"


class PostgresKeyShelf:
    """Implements ``KeyShelf``. The tables exist. Blocks on a connection of its own, which it makes when it needs it."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._lock = threading.Lock()
        self._open: psycopg.Connection[tuple[Any, ...]] | None = None

    def keys(self, tenants: Sequence[str]) -> list[tuple[str, str, dict[str, Any]]]:
        """All rows of these tenants."""
        with self._connection() as c:
            found = c.execute(_KEYS, (DATA_KEY, list(tenants))).fetchall()
        return [(tenant, key, msgspec.json.decode(value)) for tenant, key, value in found]

    def tenants(self) -> list[str]:
        """All tenants that have, or had, keys."""
        with self._connection() as c:
            return [tenant for (tenant,) in c.execute(_TENANTS, (DATA_KEY,)).fetchall()]

    def add(self, tenant: str, key: str, value: dict[str, Any]) -> bool:
        """Stores a row; False where there is one already."""
        with self._connection() as c:
            return c.execute(_ADD, (DATA_KEY, tenant, key, msgspec.json.encode(value))).rowcount > 0

    def change(self, tenant: str, key: str, value: dict[str, Any]) -> None:
        """Replaces a row that is there."""
        with self._connection() as c:
            c.execute(_CHANGE, (msgspec.json.encode(value), DATA_KEY, tenant, key))

    def drop(self, tenant: str, keep: str, value: dict[str, Any]) -> int:
        """Leaves only ``keep``, and no record that is sealed.

        The server keeps what was removed until it vacuums, and in its log and backups.
        """
        with self._connection() as c:
            with c.transaction():
                count = c.execute(_DROP, (DATA_KEY, tenant)).rowcount
                c.execute(_ADD, (DATA_KEY, tenant, keep, msgspec.json.encode(value)))
                c.execute(_DROP_SEALED, (tenant,))
            with suppress(psycopg.Error):  # for the owner of the table alone
                c.execute("VACUUM records")
        return count

    def close(self) -> None:
        """Closes the connection; twice is harmless."""
        with self._lock:
            if self._open is not None:
                self._open.close()
                self._open = None

    @contextmanager
    def _connection(self) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
        with self._lock:
            try:
                if self._open is not None and not _answers(self._open):
                    self._open.close()
                    self._open = None
                if self._open is None:
                    self._open = psycopg.connect(conninfo_of(self._url), autocommit=True)
                yield self._open
            except psycopg.Error as error:
                if is_lost(error) and self._open is not None:
                    self._open.close()
                    self._open = None
                raise store_error(error, place_of(self._url)) from error


def _answers(connection: psycopg.Connection[tuple[Any, ...]]) -> bool:
    if connection.closed:
        return False
    try:
        connection.execute("SELECT 1")
    except psycopg.Error:
        return False
    return True
