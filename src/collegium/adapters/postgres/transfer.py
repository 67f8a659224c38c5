"""A database as one end of a transfer: read without being changed, or filled."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from collegium.adapters.postgres.connection import Connection, connect, place_of, store_error
from collegium.adapters.postgres.presence import beating
from collegium.adapters.postgres.records import fields_of
from collegium.adapters.postgres.upgrade import move_behind
from collegium.adapters.transfer import (
    BLOBS,
    EVENTS,
    FENCES,
    HEADS,
    MARK,
    MARK_CURSOR,
    RECORDS,
    Key,
    Row,
    Rows,
    Table,
    rows_of,
)
from collegium.ports import Clock

_NOTE: Final = "INSERT INTO meta (key, value) VALUES (%s, %s) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
_WORKERS: Final = "SELECT DISTINCT worker FROM fences WHERE open AND worker IS NOT NULL ORDER BY worker"
_TRANSFER: Final = {
    # A page of the other store may take longer than a worker's statement ever may.
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
}
_EXTRA: Final = {"heads": ("pos",), "events": ("pos",), "records": ("fields",), "checkpoints": ("until",)}
"""Columns that are this store's own."""


class PostgresEnd:
    """Implements ``transfer.Filling``; made by ``open_end``."""

    def __init__(self, connection: Connection, place: str) -> None:
        self.place = place
        self._connection = connection

    async def aclose(self) -> None:
        """Closes the connection; twice is harmless."""
        await self._connection.close()

    async def meta(self) -> dict[str, str]:
        """The rows of ``meta``."""
        return {str(key): str(value) for key, value in await self._rows(sql.SQL("SELECT key, value FROM meta"))}

    async def open_workers(self) -> tuple[str, ...]:
        """The workers of attempts that are open."""
        return tuple(worker for (worker,) in await self._rows(sql.SQL(_WORKERS)))

    async def living(self, folders: Sequence[Path], *, lease_s: float, clock: Clock) -> tuple[str, ...]:
        """Workers that live; it takes up to a lease to tell where there was one."""
        try:
            return await beating(self._connection, lease_s=lease_s, clock=clock)
        except psycopg.Error as error:
            raise store_error(error, self.place) from error

    async def page(self, table: Table, after: Key | None, limit: int, *, run: str | None = None) -> list[Row]:
        """The next rows by key."""
        keys = _names(table.columns[: table.keys])
        where: list[sql.Composable] = []
        values: list[object] = []
        if run is not None:
            where.append(sql.SQL("run = %s"))
            values.append(run)
        if after is not None:
            holes = sql.SQL(", ").join(sql.Placeholder() * len(after))
            where.append(sql.SQL("({}) > ({})").format(keys, holes))
            values += after
        query = sql.SQL("SELECT {} FROM {} {} ORDER BY {} LIMIT %s").format(
            _columns(table),
            sql.Identifier(table.name),
            sql.SQL("WHERE {}").format(sql.SQL(" AND ").join(where)) if where else sql.SQL(""),
            keys,
        )
        return await self._rows(query, (*values, limit))

    async def blob(self, name: Key) -> Row | None:
        """The row of a blob with its bytes."""
        query = sql.SQL("SELECT {} FROM blobs WHERE tenant = %s AND sha256 = %s").format(_columns(BLOBS))
        rows = await self._rows(query, name)
        return rows[0] if rows else None

    async def count(self, table: Table) -> int:
        """How many rows there are."""
        ((number,),) = await self._rows(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table.name)))
        return int(number)

    async def begin(self, mark: str, cursor: int) -> None:
        """Marks the store as not yet whole; its places go on behind ``cursor``."""
        known = await self.meta()
        async with self._transaction() as connection:
            if known.get(MARK_CURSOR, str(cursor)) != str(cursor):
                await connection.execute("UPDATE heads SET seq = -1")
            await connection.cursor().executemany(_NOTE, [(MARK, mark), (MARK_CURSOR, str(cursor))])
            await move_behind(connection, cursor)

    async def put(self, table: Table, rows: Sequence[Row], gone: Sequence[Key]) -> None:
        """Stores ``rows`` and removes the rows of the keys ``gone`` first."""
        if not rows and not gone:
            return
        async with self._transaction() as connection:
            await _remove(connection, table, gone)
            await _copy(connection, table, rows)

    async def put_runs(self, heads: Sequence[Row], gone: Sequence[str], source: Rows) -> None:
        """Stores these runs as ``source`` has them, and removes the runs ``gone`` first."""
        if not heads and not gone:
            return
        async with self._transaction() as connection:
            for table in (EVENTS, FENCES, HEADS):
                query = sql.SQL("DELETE FROM {} WHERE run = ANY (%s)").format(sql.Identifier(table.name))
                await connection.execute(query, (list(gone),))
            for head in heads:
                for table in (EVENTS, FENCES):
                    await _copy(connection, table, rows_of(source, table, run=head[0]))
            await _copy(connection, HEADS, heads)

    async def finish(self, meta: Mapping[str, str]) -> None:
        """The store is whole; what its planner knows is of what it holds now."""
        async with self._transaction() as connection:
            await connection.cursor().executemany(_NOTE, list(meta.items()))
            await connection.execute("DELETE FROM meta WHERE key = ANY (%s)", ([MARK, MARK_CURSOR],))
            await connection.execute("ANALYZE heads, events, fences, blobs, records")

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Connection]:
        try:
            async with self._connection.transaction():
                yield self._connection
        except psycopg.Error as error:
            raise store_error(error, self.place) from error

    async def _rows(self, query: sql.Composable, values: Sequence[object] = ()) -> list[Row]:
        try:
            cursor: Any = self._connection.cursor(binary=True)
            await cursor.execute(query, values)
            rows: list[Row] = await cursor.fetchall()
        except psycopg.Error as error:
            raise store_error(error, self.place) from error
        return rows


async def open_end(url: str, *, is_source: bool) -> PostgresEnd:
    """The store at ``url``, whose tables are there; with ``is_source`` it cannot be written. Raises ``StoreError``."""
    settings = {**_TRANSFER, "default_transaction_read_only": "on" if is_source else "off"}
    return PostgresEnd(await connect(url, settings), place_of(url))


def _columns(table: Table) -> sql.Composable:
    """What is read of a row; flags are numbers to others."""
    names = [sql.SQL("open::int AS open") if name == "open" else sql.Identifier(name) for name in table.columns]
    return sql.SQL(", ").join(names)


def _names(columns: Sequence[str]) -> sql.Composable:
    return sql.SQL(", ").join(map(sql.Identifier, columns))


async def _remove(connection: Connection, table: Table, gone: Sequence[Key]) -> None:
    if not gone:
        return
    keys = table.columns[: table.keys]
    where = sql.SQL(" AND ").join(sql.SQL("{} = %s").format(sql.Identifier(key)) for key in keys)
    query = sql.SQL("DELETE FROM {} WHERE {}").format(sql.Identifier(table.name), where)
    await connection.cursor().executemany(query, gone)


async def _copy(connection: Connection, table: Table, rows: Sequence[Row] | AsyncIterator[Row]) -> None:
    extra = await _own(connection, table)
    columns = (*table.columns, *_EXTRA.get(table.name, ()))
    query = sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(table.name), _names(columns))
    async with connection.cursor().copy(query) as copy:
        if isinstance(rows, Sequence):
            for row in rows:
                await copy.write_row(_kept(table, row, extra))
        else:
            async for row in rows:
                await copy.write_row(_kept(table, row, extra))


async def _own(connection: Connection, table: Table) -> Row:
    """What every row of this transaction has in the columns that are this store's own."""
    if table.name in ("heads", "events"):
        row = await (await connection.execute("SELECT collegium_pos()")).fetchone()
        return row or ()
    return (0,) if table.name == "checkpoints" else ()


def _kept(table: Table, row: Row, extra: Row) -> Row:
    if table is RECORDS:
        extra = (Jsonb(fields_of(msgspec.json.decode(row[RECORDS.columns.index("value")]))),)
    elif table is FENCES:
        row = (*row[:-1], bool(row[-1]))
    return (*row, *extra)
