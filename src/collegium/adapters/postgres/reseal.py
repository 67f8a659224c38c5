"""Rows of a PostgreSQL store that are sealed again, in small transactions beside whoever works on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, LiteralString

import msgspec
import psycopg
from psycopg.types.json import Jsonb

from collegium.adapters.encryption.rotation import Change, Place
from collegium.adapters.postgres.connection import conninfo_of, place_of, store_error
from collegium.adapters.postgres.records import fields_of

# The key, which puts rows in order, comes first; then tenant and version.
_PLACES: Final[dict[str, LiteralString]] = {
    "events": (
        "SELECT run, seq, tenant, key_version FROM events WHERE (run, seq) > (%s, %s) "
        "AND (%s::text IS NULL OR tenant = %s) AND body IS NOT NULL ORDER BY run, seq LIMIT %s"
    ),
    "blobs": (
        "SELECT tenant, sha256, tenant, key_version FROM blobs WHERE (tenant, sha256) > (%s, %s) "
        "AND (%s::text IS NULL OR tenant = %s) ORDER BY tenant, sha256 LIMIT %s"
    ),
    "records": (
        "SELECT kind, tenant, key, tenant, key_version FROM records WHERE (kind, tenant, key) > (%s, %s, %s) "
        "AND (%s::text IS NULL OR tenant = %s) ORDER BY kind, tenant, key LIMIT %s"
    ),
}
_FIRST: Final[dict[str, tuple[Any, ...]]] = {"events": ("", -1), "blobs": ("", ""), "records": ("", "", "")}
_VALUE: Final[dict[str, LiteralString]] = {
    "events": "SELECT body FROM events WHERE run = %s AND seq = %s",
    "blobs": "SELECT data FROM blobs WHERE tenant = %s AND sha256 = %s",
    "records": "SELECT value FROM records WHERE kind = %s AND tenant = %s AND key = %s",
}
_REPLACE: Final[dict[str, LiteralString]] = {
    "events": "UPDATE events SET body = %s, key_version = %s WHERE run = %s AND seq = %s AND body = %s",
    "blobs": "UPDATE blobs SET data = %s, key_version = %s WHERE tenant = %s AND sha256 = %s AND data = %s",
    "records": (
        "UPDATE records SET value = %s, key_version = %s, fields = %s "
        "WHERE kind = %s AND tenant = %s AND key = %s AND value = %s"
    ),
}


class PostgresRows:
    """Implements ``Rows``. The tables exist."""

    def __init__(self, url: str) -> None:
        self._place = place_of(url)
        try:
            self._connection = psycopg.connect(conninfo_of(url), autocommit=True)
        except psycopg.Error as error:
            raise store_error(error, self._place) from error

    def places(self, table: str, after: tuple[Any, ...] | None, limit: int, tenant: str | None) -> list[Place]:
        """The next rows by key."""
        start = _FIRST[table] if after is None else after
        rows = self._rows(_PLACES[table], (*start, tenant, tenant, limit))
        return [Place(tuple(row[:-2]), row[-2], row[-1]) for row in rows]

    def value(self, table: str, key: tuple[Any, ...]) -> bytes | None:
        """What the row holds."""
        rows = self._rows(_VALUE[table], key)
        return rows[0][0] if rows else None

    def replace(self, table: str, changes: Sequence[Change]) -> int:
        """Replaces those that are still what they were. In the order of their keys, as the others lock them."""
        count = 0
        try:
            with self._connection.transaction():
                for change in sorted(changes, key=lambda change: change.key):
                    extra = (Jsonb(fields_of(msgspec.json.decode(change.new))),) if table == "records" else ()
                    values = (change.new, change.version, *extra, *change.key, change.old)
                    count += self._connection.execute(_REPLACE[table], values).rowcount
        except psycopg.Error as error:
            raise store_error(error, self._place) from error
        return count

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()

    def _rows(self, query: LiteralString, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        try:
            return self._connection.execute(query, values, binary=True).fetchall()
        except psycopg.Error as error:
            raise store_error(error, self._place) from error
