"""Connections to a PostgreSQL store, and what its errors mean."""

from __future__ import annotations

from typing import Any, Final

import psycopg
from psycopg import AsyncConnection, sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from collegium.domain.errors import (
    StoreCorrupt,
    StoreError,
    StoreFull,
    StoreReadOnly,
    StoreUnavailable,
    UsageError,
)

Connection = AsyncConnection[tuple[Any, ...]]
_SETTINGS: Final = {
    # Every commit of the journal is on disk before it is acknowledged, whatever the server's default is.
    "synchronous_commit": "on",
    "default_transaction_isolation": "read committed",
    # A worker that stands still must not keep the heads that it has locked, nor hold back vacuum.
    "idle_in_transaction_session_timeout": "10s",
    "statement_timeout": "60s",
    "lock_timeout": "30s",
}
_CONNECT_TIMEOUT_S: Final = 5
OLDEST_VERSION: Final = 14


def conninfo_of(url: str) -> str:
    """What the driver needs to connect to ``postgresql://...``. Raises ``UsageError`` for a URL that is none."""
    try:
        given = conninfo_to_dict(url)
    except psycopg.ProgrammingError as error:
        raise UsageError(f"the store's URL cannot be read: {error}; postgresql://USER:PASSWORD@HOST/DATABASE") from None
    given.setdefault("connect_timeout", _CONNECT_TIMEOUT_S)
    given.setdefault("application_name", "collegium")
    return make_conninfo(**given)


def place_of(url: str) -> str:
    """Where the store is, for messages: host, port and database, never a password."""
    given = conninfo_to_dict(url)
    host = given.get("host") or given.get("hostaddr") or "localhost"
    return f"postgresql://{host}:{given.get('port') or 5432}/{given.get('dbname') or ''}"


async def connect(url: str) -> Connection:
    """A connection in autocommit whose commits are synchronous. Raises ``StoreError``."""
    place = place_of(url)
    try:
        connection = await AsyncConnection.connect(conninfo_of(url), autocommit=True, prepare_threshold=2)
    except psycopg.Error as error:
        raise store_error(error, place) from error
    try:
        for name, value in _SETTINGS.items():
            await connection.execute(sql.SQL("SET {} = {}").format(sql.Identifier(name), sql.Literal(value)))
    except psycopg.Error as error:
        await connection.close()
        raise store_error(error, place) from error
    if connection.info.server_version < OLDEST_VERSION * 10_000:
        await connection.close()
        raise StoreUnavailable(
            f"{place} is PostgreSQL {connection.info.server_version // 10_000}; "
            f"collegium needs {OLDEST_VERSION} or newer",
            store=place,
        )
    return connection


def store_error(error: psycopg.Error, place: str) -> StoreError:
    """The error of a store for one of its driver."""
    state, said = error.sqlstate or "", _first_line(error)
    if state in {"53100", "53200"}:
        return StoreFull(f"{place} has no room left ({said}): make room, then try again", store=place)
    if state in {"25006", "42501"}:
        return StoreReadOnly(
            f"{place} may not be written ({said}): grant the role what docs/how-to/fleet.md says", store=place
        )
    if state in {"28P01", "28000"}:
        return StoreUnavailable(f"{place} does not let this user in ({said}): check user and password", store=place)
    if state == "3D000":
        return StoreUnavailable(f"{place}: {said}; make the database first", store=place)
    if state.startswith("XX"):
        return StoreCorrupt(f"{place} is damaged ({said}): restore it from a backup", store=place)
    if state in {"42P01", "42703"}:
        return StoreCorrupt(f"{place} lacks a table of this version ({said}): run `collegium migrate`", store=place)
    return StoreUnavailable(f"{place} cannot be used now ({said}); it is tried again", store=place)


def is_lost(error: psycopg.Error) -> bool:
    """Whether the connection is gone, or the server goes down or comes up: worth another connection."""
    state = error.sqlstate or ""
    return isinstance(error, psycopg.OperationalError) and (state == "" or state.startswith(("08", "57P")))


def is_retryable(error: psycopg.Error) -> bool:
    """Whether the same transaction may go through the next time: a deadlock, or a lock that took too long."""
    return (error.sqlstate or "") in {"40001", "40P01", "55P03"}


def _first_line(error: psycopg.Error) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
