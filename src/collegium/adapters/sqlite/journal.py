"""The journal in an SQLite file. Rules: ``docs/explanation/journal.md``; what is written: ``journal_part.py``."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import lru_cache

from collegium.adapters.admission import Append, prepare
from collegium.adapters.encryption.plain import PLAIN
from collegium.adapters.head_walks import walks_of
from collegium.adapters.rows import (
    EventRow,
    HeadRow,
    sealed_event,
    to_event,
    to_head,
    to_link,
    to_us,
)
from collegium.adapters.sealed import as_hashed, opened_row, readable
from collegium.adapters.sqlite.archive import tell_pruned
from collegium.adapters.sqlite.connection import union
from collegium.adapters.sqlite.journal_part import JournalPart
from collegium.adapters.sqlite.reader import Reader
from collegium.adapters.sqlite.writer import Item, Writer
from collegium.domain import chain
from collegium.domain.errors import CollegiumError, StoreCorrupt
from collegium.domain.event import Draft, Event
from collegium.domain.head import Fence, Head, HeadChange, HeadQuery
from collegium.ports import Sealer

_NEAR_ROWS = 64
_EVENT = (
    "e.run, e.seq, e.id, e.tenant, e.type, e.v, e.at, e.task, e.attempt, coalesce(e.body, b.data), "
    "e.salt, e.digest, e.mac, e.blob"
)
_FROM = "FROM events e LEFT JOIN blobs b ON b.tenant = e.tenant AND b.sha256 = e.blob"
READ = f"SELECT {_EVENT} {_FROM} WHERE e.run = ? AND e.seq > ? ORDER BY e.seq LIMIT ?"
# What was pruned has neither a body nor the name of one; it is passed over.
SCAN = f"SELECT e.pos, {_EVENT} {_FROM} WHERE e.pos > ? AND coalesce(e.body, e.blob) IS NOT NULL ORDER BY e.pos LIMIT ?"
_HEAD = "h.run, h.tenant, h.status, h.seq, h.mac, h.deciding_seq, h.wake_at, h.project"
MOST_WALKS = 32
HEAD = f"SELECT {_HEAD} FROM heads h WHERE h.run = ?"  # noqa: S608 constants


class SqliteJournal:
    """Implements ``Journal``; made by ``open_store``."""

    def __init__(
        self, writer: Writer, reader: Reader, part: JournalPart, *, chain_key: bytes, sealer: Sealer = PLAIN
    ) -> None:
        self._sealer = sealer
        self._writer = writer
        self._reader = reader
        self._part = part
        self._key = chain_key

    def append(
        self,
        run: str,
        drafts: Sequence[Draft],
        *,
        expected: int | None = None,
        fence: Fence | tuple[Fence, ...] | None = None,
        head: HeadChange | None = None,
    ) -> SqliteReceipt:
        """Orders ``drafts`` as the next events of ``run``; see ``Journal.append``."""
        request = prepare(run, drafts, expected=expected, fence=fence, head=head)
        self._sealer.require(request.tenant)
        receipt = SqliteReceipt(request, self._part, self._writer)
        self._writer.put(receipt)
        return receipt

    async def read(self, run: str, after: int = 0, limit: int = 1_000) -> tuple[Event, ...]:
        """Durable events of ``run`` with ``seq > after``, in order. Raises ``StoreCorrupt`` for an unreadable one."""
        near = min(limit, _NEAR_ROWS)
        rows = self._reader.near(lambda c: c.execute(READ, (run, after, near)).fetchall())
        if len(rows) == near < limit:
            last, rest = rows[-1][1], limit - near
            rows += await self._reader.far(lambda c: c.execute(READ, (run, last, rest)).fetchall())
        try:
            return tuple(to_event(self._whole(row)) for row in rows)
        except StoreCorrupt:
            self._reader.near(lambda c: tell_pruned(c, run))
            raise

    async def head(self, run: str) -> Head | None:
        """The head row of ``run`` or None."""
        row = self._reader.near(lambda c: c.execute(HEAD, (run,)).fetchone())
        return None if row is None else _head(row)

    def version(self) -> int:
        """A number that is another one as soon as any process has committed anything to the file.

        Source: SQLite's documentation, PRAGMA data_version; the connection asked only ever reads.
        """
        version: int = self._reader.near(lambda c: c.execute("PRAGMA data_version").fetchone()[0])
        return version

    async def heads(self, query: HeadQuery) -> tuple[Head, ...]:
        """Heads by index, oldest wake-up (with ``due_before``) or newest run first.

        A page of due runs goes on behind the place that ``query.after`` had in the page before. Where that is not
        told, it is its present place; when the run is no longer due, the list then begins again: whoever works on due
        runs asks once more rather than missing one.
        """
        if frozenset() in (query.statuses, query.projects):
            return ()

        def find(connection: sqlite3.Connection) -> list[tuple[object, ...]]:
            after_us = None if query.after_wake_at is None else to_us(query.after_wake_at)
            if query.due_before is not None and query.after is not None and after_us is None:
                after = connection.execute(HEAD, (query.after,)).fetchone()
                after_us = None if after is None else after[6]
            sql, values = heads_statement(query, after_us)
            return connection.execute(sql, values).fetchall()

        rows = self._reader.near(find) if query.limit <= _NEAR_ROWS * 2 else await self._reader.far(find)
        return tuple(map(_head, rows))

    async def scan(self, after: str = "", limit: int = 1_000) -> tuple[tuple[Event, ...], str]:
        """Events of all runs in the order they were committed, and the cursor to go on from."""
        start = int(after or 0)
        rows = await self._reader.far(lambda c: c.execute(SCAN, (start, limit)).fetchall())
        return readable(self._whole, (row[1:] for row in rows)), str(rows[-1][0]) if rows else after

    async def verify(self, run: str) -> int | None:
        """The first seq of ``run`` whose event is not as it was written, or None when the chain holds."""

        def check(connection: sqlite3.Connection) -> int | None:
            connection.execute("BEGIN")
            try:
                head = connection.execute(HEAD, (run,)).fetchone()
                rows = connection.execute(READ, (run, -(2**62), -1))
                links = (
                    as_hashed(self._sealer, to_link(EventRow(*row[:9], *map(_bytes, row[9:13]))), row[13])
                    for row in rows
                )
                return chain.verify(self._key, links, head=None if head is None else (head[3], _bytes(head[4])))
            finally:
                connection.execute("COMMIT")

        return await self._reader.far(check)

    def _whole(self, row: Sequence[object]) -> EventRow:
        if not isinstance(row[9], bytes) or not isinstance(row[12], bytes):
            raise StoreCorrupt(
                f"event {row[1]} of run {row[0]} has lost its body or its chain value: restore the store from a backup",
                run=row[0],
                seq=row[1],
            )
        return opened_row(self._sealer, row)


class SqliteReceipt(Item):
    """Implements ``Receipt``: an append on its way through the writer."""

    __slots__ = ("_part", "_request", "_ticket", "_writer", "rows")

    def __init__(self, request: Append, part: JournalPart, writer: Writer) -> None:
        super().__init__()
        self.rows: list[EventRow] = []
        self._request = request
        self._ticket = part.doubts.ticket()
        self._part = part
        self._writer = writer

    def apply(self, connection: sqlite3.Connection) -> None:
        """Lets the journal's part of the transaction check and gather the append."""
        self._part.doubts.check(self._request, self._ticket)
        self.rows = self._part.admit(self._request, connection)

    def failed(self, error: CollegiumError) -> None:
        """Casts doubt on the attempt."""
        self._part.doubts.failed(self._request, error, self)

    async def durable(self) -> tuple[Event, ...]:
        """The events as stored, once they would survive a power cut; see ``Receipt.durable``."""
        try:
            await self._writer.settled(self)
        except CollegiumError:
            self._part.doubts.heard(self._request, self)
            raise
        return tuple(map(sealed_event, self._request.entries, self.rows))


def heads_statement(query: HeadQuery, after_us: int | None) -> tuple[str, list[object]]:
    """SQL and values for a listing of heads; ``after_us`` is the wake-up of ``query.after``."""
    where: list[str] = []
    values: list[object] = []
    heads, order = "heads h", "h.run DESC"
    if query.due_before is not None:
        order = "h.wake_at, h.run"
        # Few runs are due at any moment. SQLite, which knows no numbers, would rather read a whole tenant and sort it.
        heads += "" if query.worker is not None else " INDEXED BY heads_due"
        where.append("h.wake_at <= ?")
        values.append(to_us(query.due_before))
        if query.after is not None and after_us is not None and after_us <= to_us(query.due_before):
            where.append("(h.wake_at, h.run) > (?, ?)")
            values += [after_us, query.after]
    elif query.after is not None:
        where.append("h.run < ?")
        values.append(query.after)
    if query.tenant is not None:
        where.append("h.tenant = ?")
        values.append(query.tenant)
    if query.worker is not None:
        where.append("h.run IN (SELECT f.run FROM fences f WHERE f.worker = ? AND f.open = 1)")
        values.append(query.worker)
    walks = walks_of(query, most=MOST_WALKS)
    for column, wanted, walked in (
        ("status", query.statuses, walks.statuses),
        ("project", query.projects, walks.projects),
    ):
        if wanted is not None and not walked:
            where.append(f"h.{column} IN ({','.join('?' * len(wanted))})")
            values += sorted(wanted)
    if not walks.places:
        condition = f"WHERE {' AND '.join(where)}" if where else ""
        sql = f"SELECT {_HEAD} FROM {heads} {condition} ORDER BY {order} LIMIT ?"  # noqa: S608 values are bound
        return sql, [*values, query.limit]
    # The index of projects is of those runs alone that belong to one, and is used where that is said.
    where += ["h.project <> ''", "h.project = ?"] if walks.projects else []
    where += ["h.status = ?"] if walks.statuses else []
    select = f"SELECT {_HEAD} FROM {heads} WHERE {' AND '.join(where)} ORDER BY h.run DESC LIMIT ?"  # noqa: S608 bound
    places = [[one for one in place if one is not None] for place in walks.places]
    all_values = [value for place in places for value in (*values, *place, query.limit)]
    return f"{union([select] * len(places))} ORDER BY 1 DESC LIMIT ?", [*all_values, query.limit]


@lru_cache(4_096)
def _head(row: tuple[object, ...]) -> Head:
    """The head in ``row``; lists that are looked at again and again have the same ones in them."""
    return to_head(str(row[0]), HeadRow(*row[1:]))  # type: ignore[arg-type] # as SQLite gives them


def _bytes(value: object) -> bytes:
    """The value of a column that holds bytes unless somebody has changed it; what is gone counts as changed."""
    return value if isinstance(value, bytes) else str(value).encode()
