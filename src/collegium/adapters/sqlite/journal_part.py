"""The journal's part of a writer's transaction: heads and fences are read once, rows gathered and written together."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator

from collegium.adapters.admission import Append, Doubts, admit
from collegium.adapters.encryption.plain import PLAIN
from collegium.adapters.rows import Entropy, EventRow, FenceRow, HeadRow, seal, to_us
from collegium.adapters.sqlite.blobs import BlobPart
from collegium.adapters.sqlite.connection import insert_rows
from collegium.domain import chain
from collegium.domain.envelope import event_place
from collegium.ports import Clock, Sealer

INLINE_BYTES = 4 * 1024
"""Larger bodies go to the blobs."""
_MAX_CACHED = 8_192
HEAD = "SELECT tenant, status, seq, mac, deciding_seq, wake_at, project FROM heads WHERE run = ?"
FENCE = "SELECT attempt, worker, open FROM fences WHERE run = ? AND task = ?"
_PUT_EVENTS = (
    "INSERT INTO events (run, seq, id, tenant, type, v, at, task, attempt, body, salt, digest, mac, blob, key_version)"
)
_PUT_HEADS = "INSERT INTO heads (run, tenant, status, seq, mac, deciding_seq, wake_at, project)"
# Recording appends leave the indexed columns alone, so that only the row itself is written.
_MOVE_HEADS = "ON CONFLICT (run) DO UPDATE SET seq = excluded.seq, mac = excluded.mac"
_DECIDE_HEADS = (
    f"{_MOVE_HEADS}, status = excluded.status, deciding_seq = excluded.deciding_seq, wake_at = excluded.wake_at"
)
_PUT_FENCES = "INSERT INTO fences (run, task, attempt, worker, open)"
_MOVE_FENCES = (
    "ON CONFLICT (run, task) DO UPDATE SET attempt = excluded.attempt, worker = excluded.worker, open = excluded.open"
)


class JournalPart:
    """Admits appends one after the other against what the transaction has seen and gathered so far.

    Heads and fences stay cached between transactions as long as ``PRAGMA data_version``, asked while nobody else can
    write, says that no other connection has changed the file.
    """

    def __init__(
        self, blobs: BlobPart, *, clock: Clock, chain_key: bytes, entropy: Entropy, sealer: Sealer = PLAIN
    ) -> None:
        self._sealer = sealer
        self.doubts = Doubts()
        self._blobs = blobs
        self._clock = clock
        self._key = chain_key
        self._entropy = entropy
        self._version: int | None = None
        self._heads: dict[str, HeadRow | None] = {}
        self._fences: dict[tuple[str, str], FenceRow | None] = {}
        self._events: list[tuple[object, ...]] = []
        self._moved: set[str] = set()
        self._decided: set[str] = set()
        self._fenced: set[tuple[str, str]] = set()

    def begin(self, connection: sqlite3.Connection) -> None:
        """Forgets what another process may have changed."""
        (version,) = connection.execute("PRAGMA data_version").fetchone()
        if version != self._version or len(self._heads) + len(self._fences) > _MAX_CACHED:
            self._heads.clear()
            self._fences.clear()
            self._version = version

    def admit(self, append: Append, connection: sqlite3.Connection) -> list[EventRow]:
        """The rows that ``append`` becomes with this transaction. Raises ``Conflict``, ``Fenced``, ``NotFound``."""
        run = append.run
        self._blobs.check(append.tenant, (entry.body for entry in append.entries))
        head = self._head(run, connection)
        admitted = admit(append, head, lambda task: self._fence(run, task, connection))
        after = (0, chain.GENESIS) if head is None else (head.seq, head.mac)
        rows = seal(run, append.entries, after=after, key=self._key, entropy=self._entropy)
        self._heads[run] = admitted.head._replace(mac=rows[-1].mac)
        (self._moved if append.head is None else self._decided).add(run)
        for task, fence in admitted.fences.items():
            self._fences[run, task] = fence
            self._fenced.add((run, task))
        self._events += map(self._stored, rows)
        return rows

    def present(self, run: str, connection: sqlite3.Connection) -> HeadRow | None:
        """The head of ``run`` as it will be with what this transaction has gathered so far."""
        return self._head(run, connection)

    def gathered(self) -> Iterator[bytes]:
        """The bodies of all events gathered in this transaction that are stored beside their events."""
        return (row[9] for row in self._events if isinstance(row[9], bytes))

    def forget(self, run: str) -> None:
        """Forgets the fences of ``run``, which are about to be removed."""
        for key in [k for k in self._fences if k[0] == run]:
            del self._fences[key]

    def _stored(self, row: EventRow) -> tuple[object, ...]:
        if len(row.body) <= INLINE_BYTES:
            return (*row, None)
        name = hashlib.sha256(row.body).hexdigest()
        self._blobs.gather(row.tenant, name, row.body, stored_us=to_us(self._clock.now()))
        return (*row._replace(body=None), name)  # type: ignore[arg-type] # the column, not the row, is empty

    def _sealed(self, row: tuple[object, ...]) -> tuple[object, ...]:
        body = row[9]
        if not self._sealer.is_on or not isinstance(body, bytes):
            return (*row, 0)
        run, seq, _, tenant = row[:4]
        data, version = self._sealer.seal(str(tenant), event_place(str(tenant), str(run), int(str(seq))), body)
        return (*row[:9], data, *row[10:], version)

    def _head(self, run: str, connection: sqlite3.Connection) -> HeadRow | None:
        if run not in self._heads:
            row = connection.execute(HEAD, (run,)).fetchone()
            self._heads[run] = None if row is None else HeadRow(*row)
        return self._heads[run]

    def _fence(self, run: str, task: str, connection: sqlite3.Connection) -> FenceRow | None:
        if (run, task) not in self._fences:
            row = connection.execute(FENCE, (run, task)).fetchone()
            self._fences[run, task] = None if row is None else FenceRow(row[0], row[1], bool(row[2]))
        return self._fences[run, task]

    def flush(self, connection: sqlite3.Connection) -> None:
        """Writes all rows gathered in this transaction."""
        insert_rows(connection, _PUT_EVENTS, [self._sealed(row) for row in self._events])
        for runs, tail in ((self._moved - self._decided, _MOVE_HEADS), (self._decided, _DECIDE_HEADS)):
            heads = ((run, self._heads[run]) for run in runs)
            insert_rows(connection, _PUT_HEADS, [(run, *head) for run, head in heads if head is not None], tail)
        fences = ((key, self._fences[key]) for key in self._fenced)
        rows = [(*key, fence.attempt, fence.worker, fence.is_open) for key, fence in fences if fence is not None]
        insert_rows(connection, _PUT_FENCES, rows, _MOVE_FENCES)

    def ended(self, *, is_committed: bool) -> None:
        """Forgets what was gathered, and after a failure also what was cached."""
        if not is_committed:
            self._version = None
        for run, task in self._fenced if is_committed and len(self.doubts) else ():
            fence = self._fences[run, task]
            if fence is not None and not fence.is_open:
                self.doubts.closed(run, task, fence.attempt)
        self._events.clear()
        self._moved.clear()
        self._decided.clear()
        self._fenced.clear()
