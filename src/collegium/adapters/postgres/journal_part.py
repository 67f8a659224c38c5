"""The journal's part of a writer's transaction: heads are locked and read with their fences, rows written together."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from collegium.adapters.admission import Append, Doubts, admit
from collegium.adapters.encryption.plain import PLAIN
from collegium.adapters.postgres.blobs import PUT, BlobPart
from collegium.adapters.postgres.connection import Connection
from collegium.adapters.postgres.wire import BEGIN, BOOL, BYTES, COMMIT, INT4, INT8, TEXT, Batch, Statement
from collegium.adapters.postgres.writer import Item
from collegium.adapters.rows import Entropy, EventRow, FenceRow, HeadRow, seal, to_us
from collegium.domain import chain
from collegium.domain.envelope import event_place
from collegium.domain.errors import CollegiumError
from collegium.domain.event import fence_change
from collegium.ports import Clock, Sealer

INLINE_BYTES: Final = 4 * 1024
"""Larger bodies go to the blobs."""
# A run that is not there yet has no row to lock: one is made first, and whoever makes the same run waits for it. It has
# the status and the wake-up that it is about to get, so that the indexes are written once.
RESERVE: Final = Statement(
    "reserve_heads",
    """
    INSERT INTO heads (run, tenant, status, seq, mac, deciding_seq, wake_at, project, pos)
    SELECT run, tenant, status, 0, ''::bytea, 0, wake_at, project, 0
    FROM unnest($1, $2, $3, $4, $5) AS wanted (run, tenant, status, wake_at, project) ORDER BY run
    ON CONFLICT (run) DO NOTHING
    """,
    (TEXT, TEXT, TEXT, INT8, TEXT),
)
LOCK: Final = Statement(
    "lock_heads",
    """
    SELECT run, tenant, status, seq, mac, deciding_seq, wake_at, project, pos FROM heads
    WHERE run = ANY ($1) ORDER BY run FOR UPDATE
    """,
    (TEXT,),
    (TEXT, TEXT, TEXT, INT8, BYTES, INT8, INT8, TEXT, INT8),
)
# After the heads are locked nobody changes these. A statement of its own: it sees what was committed until then.
FENCES: Final = Statement(
    "read_fences",
    """
    SELECT f.run, f.task, f.attempt, f.worker, f.open
    FROM unnest($1, $2) AS wanted (run, task) JOIN fences f ON f.run = wanted.run AND f.task = wanted.task
    """,
    (TEXT, TEXT),
    (TEXT, TEXT, INT4, TEXT, BOOL),
)
PUT_EVENTS: Final = Statement(
    "put_events",
    """
    INSERT INTO events (pos, run, seq, id, tenant, type, v, at, task, attempt, body, salt, digest, mac, blob,
                        key_version)
    SELECT greatest(pos, collegium_pos()),
           run, seq, id, tenant, type, v, at, task, attempt, body, salt, digest, mac, blob, key_version
    FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
         AS new (pos, run, seq, id, tenant, type, v, at, task, attempt, body, salt, digest, mac, blob, key_version)
    """,
    (INT8, TEXT, INT8, TEXT, TEXT, TEXT, INT4, INT8, TEXT, INT4, BYTES, BYTES, BYTES, BYTES, TEXT, INT4),
)
# Recording appends leave the indexed columns alone, so that the row can be changed in its place.
MOVE_HEADS: Final = Statement(
    "move_heads",
    """
    UPDATE heads SET seq = new.seq, mac = new.mac, pos = greatest(heads.pos, collegium_pos())
    FROM unnest($1, $2, $3) AS new (run, seq, mac) WHERE heads.run = new.run
    """,
    (TEXT, INT8, BYTES),
)
DECIDE_HEADS: Final = Statement(
    "decide_heads",
    """
    UPDATE heads SET tenant = new.tenant, status = new.status, seq = new.seq, mac = new.mac,
                     deciding_seq = new.deciding_seq, wake_at = new.wake_at, project = new.project,
                     pos = greatest(heads.pos, collegium_pos())
    FROM unnest($1, $2, $3, $4, $5, $6, $7, $8)
         AS new (run, tenant, status, seq, mac, deciding_seq, wake_at, project)
    WHERE heads.run = new.run
    """,
    (TEXT, TEXT, TEXT, INT8, BYTES, INT8, INT8, TEXT),
)
FORGET: Final = Statement("forget_heads", "DELETE FROM heads WHERE run = ANY ($1) AND seq = 0", (TEXT,))
PUT_FENCES: Final = Statement(
    "put_fences",
    """
    INSERT INTO fences (run, task, attempt, worker, open) SELECT * FROM unnest($1, $2, $3, $4, $5)
    ON CONFLICT (run, task) DO UPDATE
    SET attempt = excluded.attempt, worker = excluded.worker, open = excluded.open
    """,
    (TEXT, TEXT, INT4, TEXT, BOOL),
)
HAS_EVENT: Final = Statement(
    "has_event",
    "SELECT e.seq FROM unnest($1, $2, $3) AS wanted (run, seq, mac) "
    "JOIN events e ON e.run = wanted.run AND e.seq = wanted.seq AND e.mac = wanted.mac",
    (TEXT, INT8, BYTES),
    (INT8,),
)
STATEMENTS: Final = (
    BEGIN, COMMIT, PUT, RESERVE, LOCK, FENCES, PUT_EVENTS, MOVE_HEADS, DECIDE_HEADS, FORGET, PUT_FENCES, HAS_EVENT
)  # fmt: skip
"""All that a writer sends, prepared with its connection."""


class AppendItem(Item):
    """An append on its way through the writer."""

    __slots__ = ("doubts", "request", "rows", "size_bytes", "ticket")

    def __init__(self, request: Append, doubts: Doubts) -> None:
        super().__init__()
        self.request = request
        self.rows: list[EventRow] = []
        self.doubts = doubts
        self.ticket = doubts.ticket()
        self.size_bytes = sum(len(entry.body) for entry in request.entries)

    def failed(self, error: CollegiumError) -> None:
        """Casts doubt on the attempt."""
        self.doubts.failed(self.request, error, self)


class JournalPart:
    """Admits appends one after the other against what was locked and gathered so far."""

    def __init__(
        self, blobs: BlobPart, *, clock: Clock, chain_key: bytes, entropy: Entropy, sealer: Sealer = PLAIN
    ) -> None:
        self._sealer = sealer
        self.doubts = Doubts()
        self._blobs = blobs
        self._clock = clock
        self._key = chain_key
        self._entropy = entropy
        self._appends: list[AppendItem] = []
        self._asked: list[int] = []
        self._heads: dict[str, HeadRow | None] = {}
        self._places: dict[str, int] = {}
        self._fences: dict[tuple[str, str], FenceRow] = {}
        self._events: list[tuple[object, ...]] = []
        self._reserved: dict[str, Append] = {}
        self._moved: set[str] = set()
        self._decided: set[str] = set()
        self._fenced: set[tuple[str, str]] = set()

    def take(self, items: Sequence[Item]) -> bool:
        """Takes the appends."""
        self._appends = [item for item in items if isinstance(item, AppendItem)]
        return bool(self._appends)

    def ask(self, batch: Batch) -> None:
        """Locks the heads of all runs that are appended to, and asks for the fences of the tasks it is about."""
        self._asked = []
        if not self._appends:
            return
        requests = [item.request for item in self._appends]
        self._reserved = {a.run: a for a in requests if a.expected == 0 and a.head is not None}
        if self._reserved:
            batch.add(RESERVE, _reservation(self._reserved.values()))
        self._asked.append(batch.add(LOCK, [(run,) for run in sorted({a.run for a in requests})]))
        if tasks := sorted({key for a in requests for key in _tasks(a)}):
            self._asked.append(batch.add(FENCES, tasks))

    def judge(self, batch: Batch) -> bool:
        """Admits the appends in their order; whether any was."""
        for n, place in enumerate(self._asked):
            for row in batch.rows(place):
                if n == 0:
                    self._heads[row[0]] = HeadRow(*row[1:8]) if row[3] > 0 else None
                    self._places[row[0]] = row[8]
                else:
                    self._fences[row[0], row[1]] = FenceRow(*row[2:])
        refused = Doubts()
        for item in self._appends:
            item.rows = []
            try:
                self.doubts.check(item.request, item.ticket)
                refused.check(item.request, item.ticket)
                item.rows = self._admit(item.request)
            except CollegiumError as error:
                item.error = error
                refused.failed(item.request, error, item)
        return bool(self._events)

    def write(self, batch: Batch) -> None:
        """Writes all rows gathered in this transaction."""
        if not self._events:
            return
        batch.add(PUT_EVENTS, [self._sealed(row) for row in self._events])
        moved = [(run, head.seq, head.mac) for run in self._moved - self._decided if (head := self._heads[run])]
        if moved:
            batch.add(MOVE_HEADS, moved)
        decided = [(run, *head) for run in self._decided if (head := self._heads[run])]
        if decided:
            batch.add(DECIDE_HEADS, decided)
        if vain := [(run,) for run in self._reserved if self._heads.get(run) is None]:
            batch.add(FORGET, vain)
        if self._fenced:
            batch.add(PUT_FENCES, [(*key, *self._fences[key]) for key in sorted(self._fenced)])

    async def is_stored(self, connection: Connection) -> bool:
        """Whether the last of the events is there, once whoever may still write it has ended.

        The transaction whose commit nobody heard of may live on at the server for a while, with the head locked.
        """
        if not self._events:
            return False
        _, run, seq, *_, mac, _ = self._events[-1]
        batch = Batch()
        batch.add(BEGIN)
        if str(run) in self._reserved:
            batch.add(RESERVE, _reservation([self._reserved[str(run)]]))
        batch.add(LOCK, [(run,)])
        found = batch.add(HAS_EVENT, [(run, seq, mac)])
        await batch.exchange(connection)
        await connection.rollback()
        return any(batch.rows(found))

    def ended(self, *, is_committed: bool) -> None:
        """Takes note of attempts that are closed; forgets all that was gathered."""
        for run, task in self._fenced if is_committed and len(self.doubts) else ():
            fence = self._fences[run, task]
            if not fence.is_open:
                self.doubts.closed(run, task, fence.attempt)
        for gathered in (self._heads, self._places, self._fences, self._reserved):
            gathered.clear()
        for some in (self._moved, self._decided, self._fenced):
            some.clear()
        self._appends, self._asked, self._events = [], [], []

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
        place = self._places.get(run, 0)
        self._events += [self._stored(place, row) for row in rows]
        return rows

    def _stored(self, place: int, row: EventRow) -> tuple[object, ...]:
        if len(row.body) <= INLINE_BYTES:
            return (place, *row, None)
        name = hashlib.sha256(row.body).hexdigest()
        self._blobs.gather(row.tenant, name, row.body, stored_us=to_us(self._clock.now()))
        return (place, *row[:9], None, *row[10:], name)

    def _sealed(self, row: tuple[object, ...]) -> tuple[object, ...]:
        body = row[10]
        if not self._sealer.is_on or not isinstance(body, bytes):
            return (*row, 0)
        _, run, seq, _, tenant = row[:5]
        data, version = self._sealer.seal(str(tenant), event_place(str(tenant), str(run), int(str(seq))), body)
        return (*row[:10], data, *row[11:], version)


def _reservation(appends: Iterable[Append]) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for append in sorted(appends, key=lambda append: append.run):
        if append.head is not None:
            wake_us = None if append.head.wake_at is None else to_us(append.head.wake_at)
            rows.append((append.run, append.tenant, append.head.status, wake_us, append.head.project))
    return rows


def _tasks(append: Append) -> Iterator[tuple[str, str]]:
    """The tasks whose fences an append may ask for."""
    for fence in append.fences:
        yield append.run, fence.task
    for entry in append.entries:
        if fence_change(entry.type) is not None and entry.draft.task is not None:
            yield append.run, entry.draft.task
