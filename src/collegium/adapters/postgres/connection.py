"""Connections to a PostgreSQL store, and what its errors mean."""

from __future__ import annotations

from typing import Any, Final

import psycopg
from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.types.numeric import Int8BinaryDumper

from collegium.domain.errors import (
    StoreCorrupt,
    StoreError,
    StoreFull,
    StoreReadOnly,
    StoreUnavailable,
    UsageError,
)

Connection = AsyncConnection[tuple[Any, ...]]
OLDEST_VERSION: Final = 14
SETTINGS: Final = {
    # Every commit of the journal is on disk before it is acknowledged, whatever the server's default is.
    "synchronous_commit": "on",
    "default_transaction_isolation": "read\\ committed",
    # A worker that stands still must not keep the heads that it has locked, nor hold back vacuum.
    "idle_in_transaction_session_timeout": "2s",
    "statement_timeout": "60s",
    "lock_timeout": "30s",
    # Statements look up keys. A plan that was made while a table was small, or for values that nobody knew yet, stays
    # in use while it grows: none may read it from end to end as long as there is an index.
    "enable_seqscan": "off",
    "timezone": "UTC",
}
_NETWORK: Final[dict[str, Any]] = {
    "connect_timeout": 5,
    "application_name": "collegium",
    # A server that is cut off is given up after so many milliseconds without an answer to what was sent.
    "tcp_user_timeout": 15_000,
    "keepalives_idle": 10,
    "keepalives_interval": 3,
    "keepalives_count": 3,
}


def conninfo_of(url: str, settings: dict[str, str] | None = None) -> str:
    """What the driver needs to connect to ``postgresql://...``. Raises ``UsageError`` for a URL that is none."""
    try:
        given = conninfo_to_dict(url)
        if not all(port.isdigit() for port in str(given.get("port", 0)).split(",")):
            raise psycopg.ProgrammingError(f"{given['port']!r} is no port")
    except psycopg.ProgrammingError as error:
        raise UsageError(
            f"the store's URL cannot be read ({_first_line(error)}): it has to be postgresql://USER:PASSWORD@HOST/NAME"
        ) from None
    # Ours come last: what durability stands on is not left to a URL.
    options = " ".join(f"-c {name}={value}" for name, value in {**SETTINGS, **(settings or {})}.items())
    given["options"] = f"{given.get('options') or ''} {options}".strip()
    return make_conninfo("", **{**_NETWORK, **given})


def place_of(url: str) -> str:
    """Where the store is, for messages: host, port and database, never a password. Raises ``UsageError``."""
    given = conninfo_to_dict(conninfo_of(url))
    host = given.get("host") or given.get("hostaddr") or "localhost"
    return f"postgresql://{host}:{given.get('port') or 5432}/{given.get('dbname') or given.get('user') or ''}"


async def connect(url: str, settings: dict[str, str] | None = None) -> Connection:
    """A connection in autocommit whose commits are synchronous. Raises ``StoreError``."""
    place = place_of(url)
    try:
        connection = await AsyncConnection.connect(conninfo_of(url, settings), autocommit=True, prepare_threshold=2)
    except psycopg.Error as error:
        raise store_error(error, place) from error
    try:
        check_server(connection.info.server_version, connection.info.parameter_status("TimeZone"), place)
    except StoreError:
        await connection.close()
        raise
    # One type for every whole number: each mixture of types would be a statement of its own to the server.
    connection.adapters.register_dumper(int, Int8BinaryDumper)
    return connection


def check_server(version: int, zone: str | None, place: str) -> None:
    """Raises ``StoreUnavailable`` for a server that is too old, or that something between has kept from our settings.

    The server tells every new connection its time zone: one that is not ours shows that the settings were dropped.
    """
    if version < OLDEST_VERSION * 10_000:
        raise StoreUnavailable(
            f"{place} is PostgreSQL {version // 10_000}; collegium needs {OLDEST_VERSION} or newer", store=place
        )
    if zone != "UTC":
        raise StoreUnavailable(
            f"{place} is reached through something that drops the settings of a connection (a pooler that ignores the "
            "startup parameter `options`): connect to PostgreSQL itself, see docs/how-to/postgresql.md",
            store=place,
        )


def store_error(error: psycopg.Error, place: str) -> StoreError:
    """The error of a store for one of its driver."""
    state, said = error.sqlstate or "", _first_line(error)
    refused = _refused(state, said, place)
    if refused is not None:
        return refused
    if state in {"53100", "53200"}:
        return StoreFull(f"{place} has no room left ({said}): make room, then try again", store=place)
    if state in {"25006", "42501"}:
        return StoreReadOnly(
            f"{place} may not be used so by this role ({said}): grant it what docs/how-to/postgresql.md says",
            store=place,
        )
    if state.startswith("XX"):
        return StoreCorrupt(f"{place} is damaged ({said}): restore it from a backup", store=place)
    if state in {"42P01", "42703", "42883"}:
        return StoreCorrupt(
            f"{place} lacks something that this version needs ({said}): run `collegium migrate`", store=place
        )
    if state == "57014":
        return StoreUnavailable(f"{place} took too long for one statement ({said}); try again later", store=place)
    return StoreUnavailable(f"{place} cannot be used now ({said}); it is tried again", store=place)


def _refused(state: str, said: str, place: str) -> StoreError | None:
    """Why the server let nobody in, where it says so; without a state the text alone tells it."""
    if state in {"28P01", "28000"} or "password authentication failed" in said or "no password supplied" in said:
        return StoreUnavailable(f"{place} does not let this user in ({said}): check user and password", store=place)
    if state == "3D000" or ('database "' in said and "does not exist" in said):
        return StoreUnavailable(f"{place} is not there ({said}): make the database first", store=place)
    if "unsupported startup parameter" in said:
        return StoreUnavailable(
            f"{place} is a pooler that does not pass settings on ({said}): connect to PostgreSQL itself, see "
            "docs/how-to/postgresql.md",
            store=place,
        )
    if state == "53300" or "too many clients" in said:
        return StoreUnavailable(
            f"{place} takes no more connections ({said}): raise its max_connections or lower [postgres] pool",
            store=place,
        )
    return None


def is_lost(error: BaseException) -> bool:
    """Whether a new connection is worth it.

    This one is gone or was reset (its prepared statements are missing); the server goes down, comes up or follows
    another.
    """
    if isinstance(error, StoreUnavailable | TimeoutError | OSError):
        return True
    if not isinstance(error, psycopg.Error):
        return False
    state = error.sqlstate or ""
    if not state:
        return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
    return state.startswith(("08", "57P")) or state in {"25P03", "25006", "26000", "53300"}


def is_retryable(error: BaseException) -> bool:
    """Whether the same transaction may go through the next time: a deadlock, or a lock that took too long."""
    return isinstance(error, psycopg.Error) and (error.sqlstate or "") in {"40001", "40P01", "55P03"}


def is_data(error: BaseException) -> bool:
    """Whether something that was to be written cannot be stored: one item's fault, not its neighbours'."""
    return isinstance(error, psycopg.DataError | psycopg.IntegrityError | psycopg.ProgrammingError)


def _first_line(error: psycopg.Error) -> str:
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    # Of several addresses that were tried, the last line says what was wrong with the last.
    return lines[0].strip() if lines else type(error).__name__
