"""Signed checkpoints in the store's SQLite file.

What has changed is found behind the newest checkpoint's ``cursor``, a ``pos`` of ``events``: the cost is that of the
new events, however many runs there are. It is read outside the writer; the transaction only looks whether another
process was quicker.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TypeVar

from collegium.adapters.checkpoint_rules import Made, encoded, genuine, numbered, stored
from collegium.adapters.sqlite.reader import Reader
from collegium.adapters.sqlite.writer import Item, Writer
from collegium.domain.checkpoint import (
    Checkpoint,
    Coverage,
    Entry,
    cover,
    following,
    is_too_long,
    taken_in,
)
from collegium.domain.errors import Conflict

T = TypeVar("T")
LAST_POS = "SELECT coalesce(max(pos), 0) FROM events"
LAST = "SELECT id, tenant, number, value FROM checkpoints ORDER BY id DESC LIMIT 1"
NEWEST = "SELECT tenant, number, value FROM checkpoints WHERE tenant = ? ORDER BY number DESC LIMIT 1"
SOME = "SELECT tenant, number, value, entries FROM checkpoints WHERE tenant = ? AND number > ? ORDER BY number LIMIT ?"
CHANGED = (
    "SELECT h.tenant, h.run, h.seq, h.mac FROM heads h WHERE h.run IN (SELECT e.run FROM events e WHERE e.pos > ?)"
)
_ALL = "SELECT tenant, run, seq, mac FROM heads"
_ALL_OF = f"{_ALL} WHERE tenant = ?"
_MAC = "SELECT mac FROM events WHERE run = ? AND seq = ?"
_IS_PRUNED = "SELECT 1 FROM tombstones WHERE run = ? AND json_extract(value, '$.seq') >= ?"
_PUT = "INSERT INTO checkpoints (tenant, number, value, entries) VALUES (?, ?, ?, ?)"
_DROP = "UPDATE checkpoints SET entries = NULL WHERE tenant = ? AND number >= ? AND number < ?"


class SqliteCheckpoints:
    """The part of ``Archive`` that signs; made by ``SqliteArchive``."""

    def __init__(self, writer: Writer, reader: Reader, *, chain_key: bytes) -> None:
        self._writer = writer
        self._reader = reader
        self._key = chain_key

    async def write(self, *, at: datetime, pause_s: float) -> tuple[Checkpoint, ...]:
        """Signs what has changed; see ``Archive.checkpoint``."""
        while self._reader.near(lambda c: self._is_due(c, at, pause_s)):
            made = await self._reader.far(lambda c: _at_once(c, lambda: self._make(c, at)))
            if not made.checkpoints:
                break
            item = _Put(made)
            self._writer.put(item)
            try:
                await self._writer.settled(item)
            except Conflict:  # another process was quicker: what it has not seen is left, unless it is too soon
                continue
            return made.checkpoints
        return ()

    async def some(self, tenant: str, after: int, limit: int) -> tuple[Checkpoint, ...]:
        """Checkpoints by number. Raises ``StoreCorrupt``."""
        rows = await self._reader.far(lambda c: c.execute(SOME, (tenant, after, max(0, limit))).fetchall())
        return tuple(stored(*row) for row in rows)

    async def covered(self, tenant: str, against: Checkpoint | None) -> Coverage:
        """What all of them say together."""

        def read(connection: sqlite3.Connection) -> Coverage:
            rows = connection.execute(SOME, (tenant, -(2**62), -1))
            return cover(self._key, tenant, numbered(rows), against)

        return await self._reader.far(read)

    def _is_due(self, connection: sqlite3.Connection, at: datetime, pause_s: float) -> bool:
        (pos,) = connection.execute(LAST_POS).fetchone()
        row = connection.execute(LAST).fetchone()
        if row is None:
            return bool(pos > 0)
        last = genuine(self._key, stored(*row[1:]))
        has_paused = not timedelta(0) <= at - last.at < timedelta(seconds=pause_s)
        return bool(pos > last.cursor) and has_paused

    def _make(self, connection: sqlite3.Connection, at: datetime) -> Made:
        (pos,) = connection.execute(LAST_POS).fetchone()
        row = connection.execute(LAST).fetchone()
        cursor = 0 if row is None else genuine(self._key, stored(*row[1:])).cursor
        heads = connection.execute(_ALL) if row is None else connection.execute(CHANGED, (cursor,))
        changed: dict[str, list[Entry]] = {}
        for tenant, *head in heads:
            changed.setdefault(str(tenant), []).append(_entry(head))
        checkpoints, drops = [], []
        for tenant, entries in sorted(changed.items()):
            made, whole = self._follow(connection, tenant, entries, at=at, cursor=max(pos, cursor))
            checkpoints.append(made)
            if whole < made.whole:
                drops.append((tenant, whole, made.number))
        return Made(0 if row is None else row[0], tuple(checkpoints), tuple(drops))

    def _follow(
        self, connection: sqlite3.Connection, tenant: str, entries: list[Entry], *, at: datetime, cursor: int
    ) -> tuple[Checkpoint, int]:
        """The next checkpoint of ``tenant``, and ``whole`` of the one before."""
        row = connection.execute(NEWEST, (tenant,)).fetchone()
        newest = None if row is None else genuine(self._key, stored(*row))
        before = None
        if newest is None:  # the first one lists every run there is
            entries = [_entry(head) for _, *head in connection.execute(_ALL_OF, (tenant,))]
        elif is_too_long(newest, entries):
            listed = [stored(*row) for row in connection.execute(SOME, (tenant, newest.whole - 1, -1))]
            before = taken_in(self._key, listed, lambda entry: _holds(connection, entry))
        made = following(self._key, newest, entries, tenant=tenant, at=at, cursor=cursor, all_before=before)
        return made, made.whole if newest is None else newest.whole


class _Put(Item):
    __slots__ = ("_made",)

    def __init__(self, made: Made) -> None:
        super().__init__()
        self._made = made

    def apply(self, connection: sqlite3.Connection) -> None:
        row = connection.execute(LAST).fetchone()
        if (0 if row is None else row[0]) != self._made.last:
            raise Conflict("another process has written checkpoints meanwhile")
        for checkpoint in self._made.checkpoints:
            value, entries = encoded(checkpoint)
            connection.execute(_PUT, (checkpoint.tenant, checkpoint.number, value.decode(), entries.decode()))
        for drop in self._made.drops:
            connection.execute(_DROP, drop)


def _at_once(connection: sqlite3.Connection, read: Callable[[], T]) -> T:
    """What ``read`` gives while all that it reads is of one moment."""
    connection.execute("BEGIN")
    try:
        return read()
    finally:
        connection.execute("COMMIT")


def _holds(connection: sqlite3.Connection, entry: Entry) -> bool:
    row = connection.execute(_MAC, (entry.run, entry.seq)).fetchone()
    if row is None:
        return connection.execute(_IS_PRUNED, (entry.run, entry.seq)).fetchone() is not None
    return isinstance(row[0], bytes) and row[0].hex() == entry.mac


def _entry(head: list[object]) -> Entry:
    run, seq, mac = head
    return Entry(str(run), int(str(seq)), mac.hex() if isinstance(mac, bytes) else str(mac))
