"""The archive of the SQLite store: stored bytes, what retention removes, and what it leaves."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import msgspec

from collegium.adapters.blob_rules import Elsewhere, Names, names_in, nowhere, take_readings
from collegium.adapters.encryption.plain import PLAIN
from collegium.adapters.rows import to_us
from collegium.adapters.sealed import as_hashed, opened_body, opened_record, plain_or_nothing
from collegium.adapters.sqlite.checkpoints import SqliteCheckpoints
from collegium.adapters.sqlite.journal_part import JournalPart
from collegium.adapters.sqlite.reader import Reader
from collegium.adapters.sqlite.writer import Item, Writer
from collegium.domain import chain
from collegium.domain.chain import Link
from collegium.domain.checkpoint import Checkpoint, Coverage
from collegium.domain.errors import Conflict, NotFound
from collegium.domain.head import FINISHED
from collegium.domain.tombstone import Tombstone, signed, verify
from collegium.ports import Sealer

_LINKS = (
    "SELECT e.run, e.seq, e.id, e.tenant, e.type, e.v, e.at, e.task, e.attempt, e.salt, e.digest, e.mac, "
    "coalesce(e.body, b.data), e.blob FROM events e LEFT JOIN blobs b ON b.tenant = e.tenant AND b.sha256 = e.blob "
    "WHERE e.run = ? AND e.seq > ? ORDER BY e.seq LIMIT ?"
)
_HEAD = "SELECT seq, mac FROM heads WHERE run = ?"
_TOMBSTONE = "SELECT value FROM tombstones WHERE run = ?"
_TOMBSTONES = "SELECT value FROM tombstones WHERE tenant = ? AND run > ? ORDER BY run LIMIT ?"
_BURY = "INSERT OR REPLACE INTO tombstones (run, tenant, value) VALUES (?, ?, ?)"
_NAMING = (
    "SELECT e.pos, e.tenant, e.blob, coalesce(e.body, b.data), e.run, e.seq FROM events e "
    "LEFT JOIN blobs b ON b.tenant = e.tenant AND b.sha256 = e.blob WHERE e.pos > ? ORDER BY e.pos"
)
_OLD = "SELECT tenant, sha256 FROM blobs WHERE stored_at < ?"
_DROP = "DELETE FROM blobs WHERE tenant = ? AND sha256 = ? AND stored_at < ?"
_READINGS = "SELECT tenant, key, json_extract(value, '$.blob') FROM records WHERE kind = 'extraction'"
_OTHERS = "SELECT kind, tenant, key, value FROM records WHERE kind <> 'extraction'"
_DROP_READING = "DELETE FROM records WHERE kind = 'extraction' AND tenant = ? AND key = ?"
_DECODE = msgspec.json.Decoder(Tombstone).decode


class SqliteArchive:
    """Implements ``Archive``; made by ``open_store``."""

    def __init__(
        self, writer: Writer, reader: Reader, part: JournalPart, *, chain_key: bytes, sealer: Sealer = PLAIN
    ) -> None:
        self._sealer = sealer
        self._writer = writer
        self._reader = reader
        self._part = part
        self._key = chain_key
        self._checkpoints = SqliteCheckpoints(writer, reader, chain_key=chain_key)

    async def links(self, run: str, after: int = 0, limit: int = 1_000) -> tuple[Link, ...]:
        """Events as stored, in order."""
        return await self._reader.far(lambda c: tuple(map(self._link, c.execute(_LINKS, (run, after, limit)))))

    async def verify(self, run: str) -> int | None:
        """The first seq that is not as it was written (0: the tombstone), or None."""

        def check(connection: sqlite3.Connection) -> int | None:
            connection.execute("BEGIN")  # head and events of one moment
            try:
                row = connection.execute(_HEAD, (run,)).fetchone()
                head = None if row is None else (row[0], _bytes(row[1]))
                rows = connection.execute(_LINKS, (run, -(2**62), -1))
                found = _find(connection, run)
                if found is not None:
                    pairs = [(row, self._link(row)) for row in rows]
                    erased = {x.seq for row, x in pairs if row[12] is not None and x.body is None}
                    return verify(self._key, [x for _, x in pairs], found, head=head, erased=erased)
                # Without a tombstone a body that is gone counts as changed; one whose key was destroyed does not.
                links = ((row, self._link(row)) for row in rows)
                whole = (x._replace(body=b"") if row[12] is None else x for row, x in links)
                return chain.verify(self._key, whole, head=head)
            except msgspec.MsgspecError:
                return 0
            finally:
                connection.execute("COMMIT")

        return await self._reader.far(check)

    async def prune(self, tombstone: Tombstone) -> Tombstone:
        """Removes what ``tombstone`` says and leaves it, signed, in one transaction.

        Raises ``Conflict`` for a run that goes on or has moved since.
        """
        item = _Prune(self._part, signed(self._key, tombstone))
        self._writer.put(item)
        await self._writer.settled(item)
        return item.tombstone

    async def tombstones(self, tenant: str, after: str = "", limit: int = 1_000) -> tuple[Tombstone, ...]:
        """What is left of pruned runs, by run."""
        rows = await self._reader.far(lambda c: c.execute(_TOMBSTONES, (tenant, after, limit)).fetchall())
        return tuple(_DECODE(value) for (value,) in rows)

    async def tombstone(self, run: str) -> Tombstone | None:
        """What is left of ``run`` if it was pruned."""
        return self._reader.near(lambda c: _find(c, run))

    async def collect(self, *, before: datetime) -> int:
        """Deletes old blobs that no event and no record names.

        What is put again meanwhile is young, and what is named meanwhile is looked at once more in the transaction.
        """
        return await self.collect_unless(nowhere, before=before)

    async def collect_unless(self, elsewhere: Elsewhere, *, before: datetime) -> int:
        """``collect`` that spares what ``elsewhere`` gives; it is asked at first and again right before the end."""
        cutoff = to_us(before)
        theirs = await elsewhere()
        swept = await self._reader.far(lambda c: _unnamed(c, cutoff, theirs, self._sealer))
        if not swept.blobs and not swept.readings:
            return 0
        swept = msgspec.structs.replace(swept, blobs=swept.blobs - await elsewhere())
        item = _Collect(self._part, swept, cutoff, self._sealer)
        self._writer.put(item)
        await self._writer.settled(item)
        return item.count

    async def names(self, after: str = "") -> tuple[Names, str]:
        """Blobs named by events stored behind the cursor ``after``, and the cursor to go on from."""

        def look(connection: sqlite3.Connection) -> tuple[Names, str]:
            named: Names = set()
            pos = _note_events(connection, int(after or 0), named, self._sealer)
            return named, str(pos)

        return await self._reader.far(look)

    async def checkpoint(self, *, at: datetime, pause_s: float = 0.0) -> tuple[Checkpoint, ...]:
        """Signs where the runs of each tenant stand that changed; what was written, in one commit."""
        return await self._checkpoints.write(at=at, pause_s=pause_s)

    async def checkpoints(self, tenant: str, after: int = 0, limit: int = 1_000) -> tuple[Checkpoint, ...]:
        """The checkpoints of ``tenant`` by number."""
        return await self._checkpoints.some(tenant, after, limit)

    async def covered(self, tenant: str, against: Checkpoint | None = None) -> Coverage:
        """What all checkpoints of ``tenant`` say together."""
        return await self._checkpoints.covered(tenant, against)

    def _link(self, row: tuple[Any, ...]) -> Link:
        return as_hashed(self._sealer, _link(row), row[13])


class _Swept(msgspec.Struct, frozen=True):
    """What nothing names, as of the event at ``pos``."""

    blobs: frozenset[tuple[str, str]]
    readings: tuple[tuple[str, str], ...]
    pos: int


class _Prune(Item):
    __slots__ = ("_part", "tombstone")

    def __init__(self, part: JournalPart, tombstone: Tombstone) -> None:
        super().__init__()
        self._part = part
        self.tombstone = tombstone

    def apply(self, connection: sqlite3.Connection) -> None:
        t = self.tombstone
        head = self._part.present(t.run, connection)
        if head is None or (head.seq, head.mac.hex()) != (t.seq, t.mac) or head.status not in FINISHED:
            raise Conflict(f"{t.run} has moved since it was looked at: it is not pruned", run=t.run)
        if t.what == "run":
            connection.execute("DELETE FROM events WHERE run = ? AND seq > ?", (t.run, t.kept))
            connection.execute("DELETE FROM fences WHERE run = ?", (t.run,))
            self._part.forget(t.run)
        else:
            connection.execute("UPDATE events SET body = NULL, blob = NULL WHERE run = ? AND seq > ?", (t.run, t.kept))
        connection.execute(_BURY, (t.run, t.tenant, msgspec.json.encode(t).decode()))


class _Collect(Item):
    __slots__ = ("_cutoff", "_part", "_sealer", "_swept", "count")

    def __init__(self, part: JournalPart, swept: _Swept, cutoff: int, sealer: Sealer) -> None:
        super().__init__()
        self._sealer = sealer
        self._part = part
        self._swept = swept
        self._cutoff = cutoff
        self.count = 0

    def apply(self, connection: sqlite3.Connection) -> None:
        named: Names = set()
        _note_events(connection, self._swept.pos, named, self._sealer)
        fresh = {name for body in self._part.gathered() for name in names_in(body)}
        for tenant, sha256 in self._swept.blobs - named:
            if sha256 not in fresh:
                self.count += connection.execute(_DROP, (tenant, sha256, self._cutoff)).rowcount
        connection.executemany(_DROP_READING, self._swept.readings)


def tell_pruned(connection: sqlite3.Connection, run: str) -> None:
    """Raises ``NotFound`` with what is left of ``run``, if it was pruned."""
    found = _find(connection, run)
    if found is not None:
        raise NotFound(str(found), run=run, pruned=True)


def _find(connection: sqlite3.Connection, run: str) -> Tombstone | None:
    row = connection.execute(_TOMBSTONE, (run,)).fetchone()
    return None if row is None else _DECODE(row[0])


def _unnamed(connection: sqlite3.Connection, cutoff: int, theirs: Names, sealer: Sealer) -> _Swept:
    named = set(theirs)
    pos = _note_events(connection, 0, named, sealer)
    for kind, tenant, key, value in connection.execute(_OTHERS):
        plain = plain_or_nothing(opened_record, sealer, kind, tenant, key, value.encode())
        named.update((tenant, name) for name in names_in(plain))
    stale = take_readings(connection.execute(_READINGS).fetchall(), named)
    blobs = frozenset((tenant, sha256) for tenant, sha256 in connection.execute(_OLD, (cutoff,)))
    return _Swept(blobs - named, stale, pos)


def _note_events(connection: sqlite3.Connection, pos: int, named: Names, sealer: Sealer) -> int:
    """Adds the blobs that are named by events behind ``pos``; returns the last pos."""
    rows: Iterable[tuple[int, str, str | None, bytes | None, str, int]] = connection.execute(_NAMING, (pos,))
    last = pos
    for at, tenant, blob, body, run, seq in rows:
        last = at
        if blob is not None:
            named.add((tenant, blob))
        plain = plain_or_nothing(opened_body, sealer, tenant, run, seq, blob=blob, body=_bytes(body or b""))
        named.update((tenant, name) for name in names_in(plain))
    return last


def _link(row: tuple[object, ...]) -> Link:
    *envelope, salt, digest, mac, body, blob = row
    lost = None if blob is None else b""
    return Link._make((*envelope, _bytes(salt), _bytes(digest), _bytes(mac), lost if body is None else _bytes(body)))


def _bytes(value: object) -> bytes:
    """The value of a column that holds bytes unless somebody has changed it."""
    return value if isinstance(value, bytes) else str(value).encode()
