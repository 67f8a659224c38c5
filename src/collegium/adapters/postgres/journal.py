"""The journal in PostgreSQL. Rules: ``docs/explanation/journal.md``; what is written: ``journal_part.py``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from collegium.adapters.admission import prepare
from collegium.adapters.encryption.plain import PLAIN
from collegium.adapters.head_walks import HeadWalks, walks_of
from collegium.adapters.postgres.archive import tell_pruned
from collegium.adapters.postgres.journal_part import AppendItem, JournalPart
from collegium.adapters.postgres.reader import Reader, Row
from collegium.adapters.postgres.writer import Writer
from collegium.adapters.rows import EventRow, HeadRow, sealed_event, to_event, to_head, to_us
from collegium.adapters.sealed import opened_row, readable
from collegium.domain.errors import CollegiumError, StoreCorrupt
from collegium.domain.event import Draft, Event
from collegium.domain.head import Fence, Head, HeadChange, HeadQuery
from collegium.ports import Sealer

# Few bodies are blobs: a join would look for one of every event.
BODY: Final = "coalesce(e.body, (SELECT b.data FROM blobs b WHERE b.tenant = e.tenant AND b.sha256 = e.blob))"
_EVENT: Final = (
    f"e.run, e.seq, e.id, e.tenant, e.type, e.v, e.at, e.task, e.attempt, {BODY}, e.salt, e.digest, e.mac, e.blob"
)
READ: Final = f"SELECT {_EVENT} FROM events e WHERE e.run = %s AND e.seq > %s ORDER BY e.seq LIMIT %s"  # noqa: S608 constants
# The place of an event is the number of its transaction, or that of the run's event before it where that is higher.
# Below the oldest transaction still under way nothing can be committed any more.
# What was pruned has neither a body nor the name of one; it is passed over.
SCAN: Final = (
    f"SELECT e.pos, {_EVENT} FROM events e WHERE (e.pos, e.run, e.seq) > (%s, %s, %s) AND e.pos < collegium_horizon() "  # noqa: S608
    "AND (e.body IS NOT NULL OR e.blob IS NOT NULL) ORDER BY e.pos, e.run, e.seq LIMIT %s"
)
_HEAD: Final = "h.run, h.tenant, h.status, h.seq, h.mac, h.deciding_seq, h.wake_at, h.project"
_MOST_WALKS: Final = 500
HEAD: Final = f"SELECT {_HEAD} FROM heads h WHERE h.run = %s"  # noqa: S608 constants


class PostgresJournal:
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
    ) -> PostgresReceipt:
        """Orders ``drafts`` as the next events of ``run``; see ``Journal.append``."""
        request = prepare(run, drafts, expected=expected, fence=fence, head=head)
        self._sealer.require(request.tenant)
        receipt = PostgresReceipt(AppendItem(request, self._part.doubts), self._part, self._writer)
        self._writer.put(receipt.item)
        return receipt

    async def read(self, run: str, after: int = 0, limit: int = 1_000) -> tuple[Event, ...]:
        """Durable events of ``run`` with ``seq > after``, in order. Raises ``StoreCorrupt`` for an unreadable one."""
        rows = await self._reader.rows(READ, (run, after, max(0, limit)))
        try:
            return tuple(to_event(self._whole(row)) for row in rows)
        except StoreCorrupt:
            await tell_pruned(self._reader, run)
            raise

    async def head(self, run: str) -> Head | None:
        """The head row of ``run`` or None."""
        row = await self._reader.row(HEAD, (run,))
        return None if row is None else _head(row)

    async def moment(self) -> str:
        """What is another text as soon as any transaction has stored anything in the server.

        A snapshot names all transactions that it sees: as long as it is the same one, everybody reads the same. One
        that has begun to write changes it too, and so does one in another database.

        Source: PostgreSQL's documentation, section 9.28.9 (``pg_snapshot``).
        """
        rows = await self._reader.rows("SELECT pg_current_snapshot()::text")
        return str(rows[0][0])

    async def heads(self, query: HeadQuery) -> tuple[Head, ...]:
        """Heads by index, oldest wake-up (with ``due_before``) or newest run first; see ``SqliteJournal.heads``."""
        if frozenset() in (query.statuses, query.projects):
            return ()
        after_us = None if query.after_wake_at is None else to_us(query.after_wake_at)
        if query.due_before is not None and query.after is not None and after_us is None:
            after = await self._reader.row(HEAD, (query.after,))
            after_us = None if after is None else after[6]
        sql, values = heads_statement(query, after_us)
        return tuple(map(_head, await self._reader.rows(sql, values)))

    async def scan(self, after: str = "", limit: int = 1_000) -> tuple[tuple[Event, ...], str]:
        """Events of all runs in an order that later commits cannot precede, and the cursor to go on from."""
        pos, run, seq = after.split(":") if after else ("0", "", "0")
        rows = await self._reader.rows(SCAN, (int(pos), run, int(seq), max(0, limit)))
        events = readable(self._whole, (row[1:] for row in rows))
        return events, f"{rows[-1][0]}:{rows[-1][1]}:{rows[-1][2]}" if rows else after

    def _whole(self, row: Row) -> EventRow:
        if row[9] is None:
            raise StoreCorrupt(
                f"event {row[1]} of run {row[0]} has lost its body: restore the store from a backup",
                run=row[0],
                seq=row[1],
            )
        return opened_row(self._sealer, row)


class PostgresReceipt:
    """Implements ``Receipt``: an append on its way through the writer."""

    __slots__ = ("_part", "_writer", "item")

    def __init__(self, item: AppendItem, part: JournalPart, writer: Writer) -> None:
        self.item = item
        self._part = part
        self._writer = writer

    async def durable(self) -> tuple[Event, ...]:
        """The events as stored, once they would survive a power cut; see ``Receipt.durable``."""
        try:
            await self._writer.settled(self.item)
        except CollegiumError:
            self._part.doubts.heard(self.item.request, self.item)
            raise
        return tuple(map(sealed_event, self.item.request.entries, self.item.rows))


def heads_statement(query: HeadQuery, after_us: int | None) -> tuple[str, list[object]]:
    """SQL and values for a listing of heads; ``after_us`` is the wake-up of ``query.after``."""
    where, values, order = list[str](), list[object](), "h.run DESC"
    if query.due_before is not None:
        order = "h.wake_at, h.run"
        where.append("h.wake_at <= %s")
        values.append(to_us(query.due_before))
        if query.after is not None and after_us is not None and after_us <= to_us(query.due_before):
            where.append("(h.wake_at, h.run) > (%s, %s)")
            values += [after_us, query.after]
    elif query.after is not None:
        where.append("h.run < %s")
        values.append(query.after)
    if query.tenant is not None:
        where.append("h.tenant = %s")
        values.append(query.tenant)
    if query.worker is not None:
        where.append("h.run IN (SELECT f.run FROM fences f WHERE f.worker = %s AND f.open)")
        values.append(query.worker)
    walks = walks_of(query, most=_MOST_WALKS)
    for column, wanted, walked in (
        ("status", query.statuses, walks.statuses),
        ("project", query.projects, walks.projects),
    ):
        if wanted is not None and not walked:
            where.append(f"h.{column} = ANY (%s)")
            values.append(sorted(wanted))
    if not walks.places:
        condition = f"WHERE {' AND '.join(where)}" if where else ""
        sql = f"SELECT {_HEAD} FROM heads h {condition} ORDER BY {order} LIMIT %s"  # noqa: S608 values are bound
        return sql, [*values, max(0, query.limit)]
    if walks.projects:
        return _of_projects(walks, where, values, max(0, query.limit))
    condition = " AND ".join([*where, "h.status = %s"])
    select = f"(SELECT {_HEAD} FROM heads h WHERE {condition} ORDER BY h.run DESC LIMIT %s)"  # noqa: S608 bound
    all_values = [value for status in walks.statuses for value in (*values, status, max(0, query.limit))]
    merged = " UNION ALL ".join([select] * len(walks.statuses))
    return f"SELECT * FROM ({merged}) AS m ORDER BY m.run DESC LIMIT %s", [*all_values, max(0, query.limit)]  # noqa: S608


def _of_projects(
    walks: HeadWalks, where: Sequence[str], values: Sequence[object], limit: int
) -> tuple[str, list[object]]:
    """A statement of one length for any number of projects: many walks in its text take longer to plan than to make."""
    places, of_place = ["unnest(%s::text[]) AS p (project)"], ["h.project <> ''", "h.project = p.project"]
    wanted: list[object] = [list(walks.projects)]
    if walks.statuses:
        places.append("unnest(%s::text[]) AS s (status)")
        of_place.append("h.status = s.status")
        wanted.append(list(walks.statuses))
    # The index is of those runs alone that belong to a project, and is used where that is said.
    condition = " AND ".join([*where, *of_place])
    walk = f"SELECT {_HEAD} FROM heads h WHERE {condition} ORDER BY h.run DESC LIMIT %s"  # noqa: S608 values are bound
    sql = f"SELECT m.* FROM {' CROSS JOIN '.join(places)} CROSS JOIN LATERAL ({walk}) AS m ORDER BY m.run DESC LIMIT %s"  # noqa: S608
    return sql, [*wanted, *values, limit, limit]


def _head(row: Row) -> Head:
    return to_head(row[0], HeadRow(*row[1:]))
