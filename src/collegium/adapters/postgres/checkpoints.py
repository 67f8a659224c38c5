"""Signed checkpoints in PostgreSQL.

What has changed is found behind the newest checkpoint's ``cursor``: the place below which nothing could be committed
any more when it was made. What was committed above it was seen by it too; that is known by what it lists. It is read
outside the writer; the transaction only looks whether another process was quicker.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from collegium.adapters.checkpoint_rules import Made, encoded, genuine, numbered, stored
from collegium.adapters.postgres.connection import Connection
from collegium.adapters.postgres.reader import Reader, Row
from collegium.adapters.postgres.writer import Deed, Writer
from collegium.domain.checkpoint import Checkpoint, Coverage, Entry, cover, following, is_too_long, taken_in
from collegium.domain.errors import Conflict
from collegium.domain.tombstone import Tombstone

HAS_NEW: Final = "SELECT coalesce((SELECT max(pos) FROM events) >= %s, false)"
LAST: Final = "SELECT id, tenant, number, value FROM checkpoints ORDER BY id DESC LIMIT 1"
NEWEST: Final = "SELECT tenant, number, value FROM checkpoints WHERE tenant = %s ORDER BY number DESC LIMIT 1"
SOME: Final = (
    "SELECT tenant, number, value, entries FROM checkpoints WHERE tenant = %s AND number > %s ORDER BY number LIMIT %s"
)
CHANGED: Final = (
    "SELECT h.tenant, h.run, h.seq, h.mac FROM heads h WHERE h.run IN (SELECT e.run FROM events e WHERE e.pos >= %s)"
)
SEEN: Final = (
    "SELECT tenant, number, value, entries FROM checkpoints WHERE until > %s AND entries IS NOT NULL ORDER BY id"
)
_PLACES: Final = "SELECT collegium_horizon(), collegium_frontier()"
_ALL: Final = "SELECT tenant, run, seq, mac FROM heads"
_ALL_OF: Final = "SELECT tenant, run, seq, mac FROM heads WHERE tenant = %s"
MACS: Final = (
    "SELECT e.run, e.seq, e.mac FROM unnest(%b::text[], %b::bigint[]) AS wanted (run, seq) "
    "JOIN events e ON e.run = wanted.run AND e.seq = wanted.seq"
)
_PRUNED: Final = "SELECT run, value FROM tombstones WHERE run = ANY (%b::text[])"
_PUT: Final = "INSERT INTO checkpoints (tenant, number, value, entries, until) VALUES (%s, %s, %s, %s, %s)"
_DROP: Final = "UPDATE checkpoints SET entries = NULL WHERE tenant = %s AND number >= %s AND number < %s"
_SIGNING: Final = "SELECT pg_advisory_xact_lock(hashtext(current_schema() || '.checkpoints'))"
Chore = Callable[[], Awaitable[None]]


class PostgresCheckpoints:
    """The part of ``Archive`` that signs; made by ``open_store``.

    Args:
        chore: What whoever signs does besides; it has to know by itself when it is due.
    """

    def __init__(self, writer: Writer, reader: Reader, *, chain_key: bytes, chore: Chore) -> None:
        self._writer = writer
        self._reader = reader
        self._key = chain_key
        self._chore = chore

    async def write(self, *, at: datetime, pause_s: float) -> tuple[Checkpoint, ...]:
        """Signs what has changed; see ``Archive.checkpoint``."""
        await self._chore()
        while await self._is_due(at, pause_s):
            made = await self._reader.at_once(lambda c: self._make(c, at))
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
        rows = await self._reader.rows(SOME, (tenant, after, max(0, limit)))
        return tuple(stored(*row) for row in rows)

    async def covered(self, tenant: str, against: Checkpoint | None) -> Coverage:
        """What all of them say together."""
        rows = await self._reader.rows(SOME, (tenant, -(2**62), None))
        return cover(self._key, tenant, numbered(rows), against)

    async def _is_due(self, at: datetime, pause_s: float) -> bool:
        row = await self._reader.row(LAST)
        cursor = 0
        if row is not None:
            last = genuine(self._key, stored(*row[1:]))
            if timedelta(0) <= at - last.at < timedelta(seconds=pause_s):
                return False
            cursor = last.cursor
        (has_new,) = await self._reader.row(HAS_NEW, (cursor,)) or (False,)
        return bool(has_new)

    async def _make(self, connection: Connection, at: datetime) -> Made:
        ((horizon, frontier),) = await _rows(connection, _PLACES)
        last = await _rows(connection, LAST)
        cursor = genuine(self._key, stored(*last[0][1:])).cursor if last else 0
        heads = await _rows(connection, CHANGED, (cursor,)) if last else await _rows(connection, _ALL)
        seen = await self._seen(connection, cursor) if last else {}
        changed: dict[str, list[Entry]] = {}
        for tenant, *head in heads:
            entry = _entry(head)
            if seen.get(entry.run) != entry:
                changed.setdefault(tenant, []).append(entry)
        checkpoints, drops = [], []
        for tenant, entries in sorted(changed.items()):
            made, whole = await self._follow(connection, tenant, entries, at=at, cursor=max(horizon, cursor))
            checkpoints.append(made)
            if whole < made.whole:
                drops.append((tenant, whole, made.number))
        return Made(last[0][0] if last else 0, tuple(checkpoints), tuple(drops), frontier)

    async def _seen(self, connection: Connection, cursor: int) -> dict[str, Entry]:
        """What was listed already of what stands behind ``cursor``; only what is as it was signed counts."""
        seen: dict[str, Entry] = {}
        for row in await _rows(connection, SEEN, (cursor,)):
            seen.update((entry.run, entry) for entry in genuine(self._key, stored(*row)).entries or ())
        return seen

    async def _follow(
        self, connection: Connection, tenant: str, entries: list[Entry], *, at: datetime, cursor: int
    ) -> tuple[Checkpoint, int]:
        """The next checkpoint of ``tenant``, and ``whole`` of the one before."""
        rows = await _rows(connection, NEWEST, (tenant,))
        newest = genuine(self._key, stored(*rows[0])) if rows else None
        before = None
        if newest is None:  # the first one lists every run there is
            entries = [_entry(head) for _, *head in await _rows(connection, _ALL_OF, (tenant,))]
        elif is_too_long(newest, entries):
            listed = [stored(*row) for row in await _rows(connection, SOME, (tenant, newest.whole - 1, None))]
            kept = await _standing(connection, [entry for one in listed for entry in one.entries or ()])
            before = taken_in(self._key, listed, lambda entry: kept[entry.run, entry.seq] in {entry.mac, PRUNED})
        made = following(self._key, newest, entries, tenant=tenant, at=at, cursor=cursor, all_before=before)
        return made, made.whole if newest is None else newest.whole


PRUNED: Final = "pruned"


async def _standing(connection: Connection, entries: Sequence[Entry]) -> Mapping[tuple[str, int], str]:
    """The mac (hex) of every listed event; ``PRUNED`` for one that a tombstone accounts for, else empty."""
    kept = dict.fromkeys(((entry.run, entry.seq) for entry in entries), "")
    runs, seqs = [run for run, _ in kept], [seq for _, seq in kept]
    for run, seq, mac in await _rows(connection, MACS, (runs, seqs)):
        kept[run, seq] = mac.hex()
    lost = {run for (run, _), mac in kept.items() if not mac}
    tombstones: dict[str, bytes] = dict(await _rows(connection, _PRUNED, (sorted(lost),))) if lost else {}
    for run, seq in [key for key, mac in kept.items() if not mac and key[0] in tombstones]:
        if _pruned_until(tombstones[run]) >= seq:
            kept[run, seq] = PRUNED
    return kept


class _Put(Deed):
    __slots__ = ("_made",)

    def __init__(self, made: Made) -> None:
        super().__init__()
        self._made = made

    async def act(self, connection: Connection) -> None:
        await connection.execute(_SIGNING)
        rows = await _rows(connection, LAST)
        if (rows[0][0] if rows else 0) != self._made.last:
            raise Conflict("another process has written checkpoints meanwhile")
        for one in self._made.checkpoints:
            await connection.execute(_PUT, (one.tenant, one.number, *encoded(one), self._made.until))
        for drop in self._made.drops:
            await connection.execute(_DROP, drop)


async def _rows(connection: Connection, query: str, values: Sequence[object] = ()) -> list[Row]:
    cursor: Any = connection.cursor(binary=True)
    await cursor.execute(query, values)
    rows: list[Row] = await cursor.fetchall()
    return rows


def _pruned_until(value: bytes) -> int:
    return msgspec.json.decode(value, type=Tombstone).seq


def _entry(head: Sequence[Any]) -> Entry:
    run, seq, mac = head
    return Entry(run, seq, mac.hex())
