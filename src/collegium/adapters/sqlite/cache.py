"""A cache in an SQLite file of its own."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

from collegium.adapters.encryption.file_key import FileKey
from collegium.adapters.sqlite.scratch import ScratchFile
from collegium.ports import Clock

_VERSION: Final = 1
_SCHEMA: Final = (
    """CREATE TABLE entries (
        n          INTEGER PRIMARY KEY AUTOINCREMENT,
        key        TEXT NOT NULL UNIQUE,
        value      BLOB NOT NULL,
        size       INTEGER NOT NULL,
        expires_at REAL NOT NULL
    )""",
    "CREATE INDEX entries_expiring ON entries (expires_at)",
    # One row, kept by triggers: the sum over all entries would be a walk through the whole table.
    "CREATE TABLE total (size INTEGER NOT NULL)",
    "INSERT INTO total VALUES (0)",
    "CREATE TRIGGER entry_added AFTER INSERT ON entries BEGIN UPDATE total SET size = size + new.size; END",
    "CREATE TRIGGER entry_gone AFTER DELETE ON entries BEGIN UPDATE total SET size = size - old.size; END",
)
GET: Final = "SELECT value FROM entries WHERE key = ? AND expires_at > ?"
DROP: Final = "DELETE FROM entries WHERE key = ?"
PUT: Final = "INSERT INTO entries (key, value, size, expires_at) VALUES (?, ?, ?, ?)"
_TOTAL: Final = "SELECT size FROM total"
EXPIRE: Final = "DELETE FROM entries WHERE expires_at <= ?"
OLDEST: Final = "DELETE FROM entries WHERE n IN (SELECT n FROM entries ORDER BY n LIMIT ?)"
_AT_ONCE: Final = 8


class SqliteCache:
    """Implements ``Cache``; outlives the process, not necessarily a power cut. What was put longest ago makes room.

    Args:
        path: The file; made anew when it is damaged.
        clock: Tells when a value is too old; its time of day, as other processes share the file.
        limit_bytes: Cap on the sum of all values; a larger value is not kept at all.
        key: The file's key, where it is encrypted as a whole.

    Raises:
        StoreError: the file cannot be opened or made.
    """

    def __init__(
        self, path: Path, clock: Clock, *, limit_bytes: int = 256 * 1024 * 1024, key: FileKey | None = None
    ) -> None:
        self._clock = clock
        self._limit_bytes = limit_bytes
        self._file = ScratchFile(path, _SCHEMA, version=_VERSION, key=key)

    async def get(self, key: str) -> bytes | None:
        """The bytes, or None when absent or expired. Raises ``StoreError``."""
        now = self._clock.now().timestamp()
        row = self._file.read(lambda connection: connection.execute(GET, (key, now)).fetchone())
        return None if row is None else bytes(row[0])

    async def put(self, key: str, value: bytes, *, ttl_s: float) -> None:
        """Keeps the bytes for at most ``ttl_s`` seconds. Raises ``StoreError``."""
        now = self._clock.now().timestamp()
        is_kept = ttl_s > 0 and len(value) <= self._limit_bytes

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(DROP, (key,))
            if is_kept:
                connection.execute(PUT, (key, value, len(value), now + ttl_s))
                self._make_room(connection, now)

        await self._file.write(work)

    def _make_room(self, connection: sqlite3.Connection, now: float) -> None:
        (size,) = connection.execute(_TOTAL).fetchone()
        if size <= self._limit_bytes:
            return
        connection.execute(EXPIRE, (now,))
        at_once = 1
        while connection.execute(_TOTAL).fetchone()[0] > self._limit_bytes:
            connection.execute(OLDEST, (at_once,))
            at_once = min(2 * at_once, _AT_ONCE)

    async def aclose(self) -> None:
        """Closes the file; twice is harmless."""
        self._file.close()
