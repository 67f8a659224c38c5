"""A store file as one end of a transfer: read without being changed, or filled."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeVar

from collegium.adapters.encryption.file_key import FileKey
from collegium.adapters.presence import held_in
from collegium.adapters.sqlite.connection import connect, insert_rows, store_error
from collegium.adapters.sqlite.driver import open_file
from collegium.adapters.transfer import (
    BLOBS,
    EVENTS,
    FENCES,
    HEADS,
    MARK,
    MARK_CURSOR,
    PAGE,
    Key,
    Row,
    Rows,
    Table,
    rows_of,
)
from collegium.domain.errors import UsageError
from collegium.ports import Clock

T = TypeVar("T")
_BYTES: Final = frozenset({"value", "entries", "body", "mac", "salt", "digest", "data"})
_TEXTS: Final = frozenset({"value", "entries"})
"""Columns that are bytes to others and text here."""
_META: Final = "SELECT key, value FROM meta"
_NOTE: Final = "INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)"
_WORKERS: Final = "SELECT DISTINCT worker FROM fences WHERE open = 1 AND worker IS NOT NULL ORDER BY worker"
_FIRST: Final = (
    "INSERT INTO sqlite_sequence (name, seq) SELECT 'events', 0 "
    "WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'events')"
)
_BEHIND: Final = "UPDATE sqlite_sequence SET seq = max(seq, ?) WHERE name = 'events'"
_UNKNOWN: Final = "UPDATE heads SET seq = -1"


class SqliteEnd:
    """Implements ``transfer.Filling``; with ``is_source`` nothing can be written.

    Args:
        path: The file; its tables are there.
        key: Its key, where it is encrypted as a whole.
        is_source: Open it for reading alone.

    Raises:
        UsageError: there is no such file.
        StoreError: it cannot be opened.
    """

    def __init__(self, path: Path, key: FileKey | None = None, *, is_source: bool) -> None:
        if not path.is_file():
            raise UsageError(f"there is no store {path}", path=str(path))
        self.place = str(path)
        self._path = path
        try:
            self._connection = (
                open_file(path, key, timeout_s=5.0, is_read_only=True)
                if is_source
                else connect(path, key, synchronous="FULL", busy_timeout_s=5.0)
            )
        except sqlite3.Error as error:
            raise store_error(error, path) from error

    async def aclose(self) -> None:
        """Closes the file; twice is harmless."""
        await asyncio.to_thread(self._connection.close)

    async def meta(self) -> dict[str, str]:
        """The rows of ``meta``."""
        return dict(await self._run(lambda c: c.execute(_META).fetchall()))

    async def living(self, folders: Sequence[Path], *, lease_s: float, clock: Clock) -> tuple[str, ...]:
        """Workers whose process is there."""
        return tuple(worker for folder in folders for worker in held_in(folder))

    async def open_workers(self) -> tuple[str, ...]:
        """The workers of attempts that are open."""
        return tuple(worker for (worker,) in await self._run(lambda c: c.execute(_WORKERS).fetchall()))

    async def page(self, table: Table, after: Key | None, limit: int, *, run: str | None = None) -> list[Row]:
        """The next rows by key."""
        keys, where = table.columns[: table.keys], []
        values: list[object] = []
        if run is not None:
            where.append("run = ?")
            values.append(run)
        if after is not None:
            where.append(f"({', '.join(keys)}) > ({', '.join('?' * len(keys))})")
            values += after
        sql = (
            f"SELECT {', '.join(table.columns)} FROM {table.name} "  # noqa: S608 constants
            f"{'WHERE ' + ' AND '.join(where) if where else ''} ORDER BY {', '.join(keys)} LIMIT ?"
        )
        rows = await self._run(lambda c: c.execute(sql, (*values, limit)).fetchall())
        return [_given(table, row) for row in rows]

    async def blob(self, name: Key) -> Row | None:
        """The row of a blob with its bytes."""
        sql = f"SELECT {', '.join(BLOBS.columns)} FROM blobs WHERE tenant = ? AND sha256 = ?"  # noqa: S608 constants
        row = await self._run(lambda c: c.execute(sql, name).fetchone())
        return None if row is None else _given(BLOBS, row)

    async def count(self, table: Table) -> int:
        """How many rows there are."""
        (number,) = await self._run(lambda c: c.execute(f"SELECT count(*) FROM {table.name}").fetchone())  # noqa: S608
        return int(number)

    async def begin(self, mark: str, cursor: int) -> None:
        """Marks the store as not yet whole; its places go on behind ``cursor``."""

        def write(connection: sqlite3.Connection) -> None:
            known = dict(connection.execute(_META).fetchall())
            if known.get(MARK_CURSOR, str(cursor)) != str(cursor):
                connection.execute(_UNKNOWN)
            connection.executemany(_NOTE, [(MARK, mark), (MARK_CURSOR, str(cursor))])
            connection.execute(_FIRST)
            connection.execute(_BEHIND, (cursor,))

        await self._transact(write)

    async def put(self, table: Table, rows: Sequence[Row], gone: Sequence[Key]) -> None:
        """Stores ``rows`` and removes the rows of the keys ``gone`` first."""
        if rows or gone:
            await self._transact(lambda c: _replace(c, table, rows, gone))

    async def put_runs(self, heads: Sequence[Row], gone: Sequence[str], source: Rows) -> None:
        """Stores these runs as ``source`` has them, and removes the runs ``gone`` first."""
        if not heads and not gone:
            return
        await self._run(lambda c: c.execute("BEGIN IMMEDIATE"))
        try:
            await self._run(lambda c: _remove_runs(c, gone))
            for head in heads:
                for table in (EVENTS, FENCES):
                    await self._copy(table, head[0], source)
            await self._run(lambda c: _replace(c, HEADS, heads, ()))
            await self._run(lambda c: c.execute("COMMIT"))
        finally:
            if self._connection.in_transaction:
                await asyncio.to_thread(self._connection.execute, "ROLLBACK")

    async def finish(self, meta: Mapping[str, str]) -> None:
        """The store is whole."""

        def write(connection: sqlite3.Connection) -> None:
            connection.executemany(_NOTE, list(meta.items()))
            connection.execute("DELETE FROM meta WHERE key IN (?, ?)", (MARK, MARK_CURSOR))

        await self._transact(write)

    async def _copy(self, table: Table, run: str, source: Rows) -> None:
        rows: list[Row] = []
        async for row in rows_of(source, table, run=run):
            rows.append(row)
            if len(rows) >= PAGE:
                await self._run(lambda c, part=tuple(rows): _replace(c, table, part, ()))  # type: ignore[misc]
                rows.clear()
        await self._run(lambda c: _replace(c, table, rows, ()))

    async def _transact(self, write: Callable[[sqlite3.Connection], None]) -> None:
        def act(connection: sqlite3.Connection) -> None:
            connection.execute("BEGIN IMMEDIATE")
            try:
                write(connection)
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

        await self._run(act)

    async def _run(self, act: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return await asyncio.to_thread(act, self._connection)
        except sqlite3.Error as error:
            raise store_error(error, self._path) from error


def _replace(connection: sqlite3.Connection, table: Table, rows: Sequence[Row], gone: Sequence[Key]) -> None:
    keys = table.columns[: table.keys]
    where = " AND ".join(f"{key} = ?" for key in keys)
    connection.executemany(f"DELETE FROM {table.name} WHERE {where}", gone)  # noqa: S608 constants
    head = f"INSERT INTO {table.name} ({', '.join(table.columns)})"
    insert_rows(connection, head, [_kept(table, row) for row in rows])


def _remove_runs(connection: sqlite3.Connection, runs: Sequence[str]) -> None:
    for table in (EVENTS, FENCES, HEADS):
        connection.executemany(f"DELETE FROM {table.name} WHERE run = ?", [(run,) for run in runs])  # noqa: S608


def _given(table: Table, row: Row) -> Row:
    """A row as others take it."""
    return tuple(
        value.encode() if name in _BYTES and isinstance(value, str) else value
        for name, value in zip(table.columns, row, strict=True)
    )


def _kept(table: Table, row: Row) -> Row:
    """A row as it is kept here."""
    return tuple(
        value.decode() if name in _TEXTS and isinstance(value, bytes) else value
        for name, value in zip(table.columns, row, strict=True)
    )
