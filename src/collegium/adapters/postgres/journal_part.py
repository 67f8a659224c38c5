"""The journal's part of a writer's transaction: heads are locked and read with their fences, rows written together."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Final

from collegium.adapters.admission import Append, Doubts, admit
from collegium.adapters.postgres.blobs import BlobPart
from collegium.adapters.postgres.connection import Connection
from collegium.adapters.postgres.writer import Item
from collegium.adapters.rows import Entropy, EventRow, FenceRow, HeadRow, seal, to_us
from collegium.domain import chain
from collegium.domain.errors import CollegiumError
from collegium.domain.head import Fence
from collegium.ports import Clock

INLINE_BYTES: Final = 4 * 1024
"""Larger bodies go to the blobs."""
# A run that is not there yet has no row to lock: one is made first, and whoever makes the same run waits for it.
_RESERVE = """
INSERT INTO heads (run, tenant, status, seq, mac, deciding_seq)
SELECT run, tenant, 'queued', 0, ''::bytea, 0
FROM unnest(%b::text[], %b::text[]) AS wanted (run, tenant) ORDER BY run
ON CONFLICT (run) DO NOTHING
"""
LOCK = """
SELECT run, tenant, status, seq, mac, deciding_seq, wake_at FROM heads
WHERE run = ANY (%b::text[]) ORDER BY run FOR UPDATE
"""
FENCES = "SELECT run, task, attempt, worker, open FROM fences WHERE run = ANY (%b::text[])"
_PUT_EVENTS = """
INSERT INTO events (run, seq, id, tenant, type, v, at, task, attempt, body, salt, digest, mac, blob)
SELECT * FROM unnest(%b::text[], %b::bigint[], %b::text[], %b::text[], %b::text[], %b::int[], %b::bigint[],
                     %b::text[], %b::int[], %b::bytea[], %b::bytea[], %b::bytea[], %b::bytea[], %b::text[])
"""
# Recording appends leave the indexed columns alone, so that the row can be changed in its place.
_MOVE_HEADS = """
UPDATE heads SET seq = new.seq, mac = new.mac
FROM unnest(%b::text[], %b::bigint[], %b::bytea[]) AS new (run, seq, mac) WHERE heads.run = new.run
"""
_DECIDE_HEADS = """
UPDATE heads SET tenant = new.tenant, status = new.status, seq = new.seq, mac = new.mac,
                 deciding_seq = new.deciding_seq, wake_at = new.wake_at
FROM unnest(%b::text[], %b::text[], %b::text[], %b::bigint[], %b::bytea[], %b::bigint[], %b::bigint[])
     AS new (run, tenant, status, seq, mac, deciding_seq, wake_at) WHERE heads.run = new.run
"""
_FORGET = "DELETE FROM heads WHERE run = ANY (%b::text[]) AND seq = 0"
_PUT_FENCES = """
INSERT INTO fences (run, task, attempt, worker, open)
SELECT * FROM unnest(%b::text[], %b::text[], %b::int[], %b::text[], %b::bool[])
ON CONFLICT (run, task) DO UPDATE
SET attempt = excluded.attempt, worker = excluded.worker, open = excluded.open
"""


class AppendItem(Item):
    """An append on its way through the writer."""

    __slots__ = ("doubts", "request", "rows", "ticket")

    def __init__(self, request: Append, doubts: Doubts) -> None:
        super().__init__()
        self.request = request
        self.rows: list[EventRow] = []
        self.doubts = doubts
        self.ticket = doubts.ticket()

    def failed(self, error: CollegiumError) -> None:
        """Casts doubt on the attempt."""
        self.doubts.failed(self.request, error, self)


class JournalPart:
    """Admits appends one after the other against what was locked and gathered so far."""

    def __init__(self, blobs: BlobPart, *, clock: Clock, chain_key: bytes, entropy: Entropy) -> None:
        self.doubts = Doubts()
        self._blobs = blobs
        self._clock = clock
        self._key = chain_key
        self._entropy = entropy
        self._heads: dict[str, HeadRow | None] = {}
        self._fences: dict[tuple[str, str], FenceRow] = {}
        self._events: list[tuple[object, ...]] = []
        self._reserved: set[str] = set()
        self._moved: set[str] = set()
        self._decided: set[str] = set()
        self._fenced: set[tuple[str, str]] = set()
        self._refused: list[AppendItem] = []

    async def look(self, connection: Connection, items: Sequence[Item]) -> None:
        """Locks the heads of all runs that are appended to, and admits the appends in their order."""
        appends = [item for item in items if isinstance(item, AppendItem)]
        if not appends:
            return
        runs = sorted({item.request.run for item in appends})
        new = sorted({(a.request.run, a.request.tenant) for a in appends if a.request.expected == 0})
        self._reserved = {run for run, _ in new}
        async with connection.pipeline():
            if new:
                first = {run: tenant for run, tenant in new}
                await connection.execute(_RESERVE, (list(first), list(first.values())))
            heads = await connection.execute(LOCK, (runs,))
            fences = await connection.execute(FENCES, (runs,))
        for run, *head in await heads.fetchall():
            self._heads[run] = HeadRow(*head) if head[2] > 0 else None
        for run, task, *fence in await fences.fetchall():
            self._fences[run, task] = FenceRow(*fence)
        refused = Doubts()
        for item in appends:
            item.error, item.rows = None, []
            try:
                self.doubts.check(item.request, item.ticket)
                refused.check(item.request, item.ticket)
                item.rows = self._admit(item.request)
            except CollegiumError as error:
                item.error = error
                refused.failed(item.request, error, item)
                self._refused.append(item)

    async def write(self, connection: Connection) -> None:
        """Writes all rows gathered in this transaction."""
        if self._events:
            await connection.execute(_PUT_EVENTS, _columns(self._events))
        moved = [(run, head.seq, head.mac) for run in self._moved - self._decided if (head := self._heads[run])]
        if moved:
            await connection.execute(_MOVE_HEADS, _columns(moved))
        decided = [(run, *head) for run in self._decided if (head := self._heads[run])]
        if decided:
            await connection.execute(_DECIDE_HEADS, _columns(decided))
        if vain := sorted(self._reserved - self._decided):
            await connection.execute(_FORGET, (vain,))
        if self._fenced:
            rows = [(*key, *self._fences[key]) for key in self._fenced]
            await connection.execute(_PUT_FENCES, _columns(rows))

    def ended(self, *, is_committed: bool) -> None:
        """Takes note of what was refused and of attempts that are closed; forgets all that was gathered."""
        if is_committed:
            for item in self._refused:
                if item.error is not None:
                    item.failed(item.error)
            for run, task in self._fenced if len(self.doubts) else ():
                fence = self._fences[run, task]
                if not fence.is_open:
                    self.doubts.closed(run, task, fence.attempt)
        for gathered in (self._heads, self._fences, self._events, self._moved, self._decided, self._fenced):
            gathered.clear()
        self._reserved = set()
        self._refused = []

    def _admit(self, append: Append) -> list[EventRow]:
        run, head = append.run, self._heads.get(append.run)
        self._blobs.check(append.tenant, (entry.body for entry in append.entries))
        admitted = admit(append, head, lambda task: self._fences.get((run, task)))
        after = (0, chain.GENESIS) if head is None else (head.seq, head.mac)
        rows = seal(run, append.entries, after=after, key=self._key, entropy=self._entropy)
        self._heads[run] = admitted.head._replace(mac=rows[-1].mac)
        (self._moved if append.head is None else self._decided).add(run)
        for task, fence in admitted.fences.items():
            self._fences[run, task] = fence
            self._fenced.add((run, task))
        self._events += map(self._stored, rows)
        return rows

    def _stored(self, row: EventRow) -> tuple[object, ...]:
        if len(row.body) <= INLINE_BYTES:
            return (*row, None)
        name = hashlib.sha256(row.body).hexdigest()
        self._blobs.gather(row.tenant, name, row.body, stored_us=to_us(self._clock.now()))
        return (*row._replace(body=None), name)  # type: ignore[arg-type] # the column, not the row, is empty


def _columns(rows: Sequence[Sequence[Any]]) -> tuple[list[Any], ...]:
    return tuple(map(list, zip(*rows, strict=True)))
