"""The archive of the PostgreSQL store: stored bytes, what retention removes, and what it leaves."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from collegium.adapters.blob_rules import Elsewhere, Names, names_in, nowhere, take_readings
from collegium.adapters.encryption.plain import PLAIN
from collegium.adapters.postgres import blobs
from collegium.adapters.postgres.checkpoints import PostgresCheckpoints
from collegium.adapters.postgres.connection import Connection
from collegium.adapters.postgres.journal_part import LOCK
from collegium.adapters.postgres.reader import Reader
from collegium.adapters.postgres.wire import Batch
from collegium.adapters.postgres.writer import Deed, Writer
from collegium.adapters.rows import to_us
from collegium.adapters.sealed import as_hashed, opened_blob, opened_body, opened_record, plain_or_nothing
from collegium.domain import chain
from collegium.domain.chain import Link
from collegium.domain.checkpoint import Checkpoint, Coverage
from collegium.domain.errors import Conflict, NotFound
from collegium.domain.head import FINISHED
from collegium.domain.tombstone import Tombstone, signed, verify
from collegium.ports import Sealer

_PAGE: Final = 2_000
LINKS: Final = (
    "SELECT e.run, e.seq, e.id, e.tenant, e.type, e.v, e.at, e.task, e.attempt, e.salt, e.digest, e.mac, "
    "coalesce(e.body, (SELECT b.data FROM blobs b WHERE b.tenant = e.tenant AND b.sha256 = e.blob)), e.blob "
    "FROM events e WHERE e.run = %s AND e.seq > %s ORDER BY e.seq LIMIT %s"
)
_HEAD: Final = "SELECT seq, mac FROM heads WHERE run = %s"
TOMBSTONE: Final = "SELECT value FROM tombstones WHERE run = %s"
TOMBSTONES: Final = "SELECT value FROM tombstones WHERE tenant = %s AND run > %s ORDER BY run LIMIT %s"
_BURY: Final = (
    "INSERT INTO tombstones (run, tenant, value) VALUES (%s, %s, %s) ON CONFLICT (run) DO UPDATE "
    "SET tenant = excluded.tenant, value = excluded.value"
)
DROP_EVENTS: Final = "DELETE FROM events WHERE run = %s AND seq > %s"
DROP_BODIES: Final = "UPDATE events SET body = NULL, blob = NULL WHERE run = %s AND seq > %s"
_DROP_FENCES: Final = "DELETE FROM fences WHERE run = %s"
_HORIZON: Final = "SELECT collegium_horizon()"
NAMING: Final = (
    "SELECT e.pos, e.run, e.seq, e.tenant, e.blob, e.body FROM events e WHERE (e.pos, e.run, e.seq) > (%s, %s, %s) "
    "ORDER BY e.pos, e.run, e.seq LIMIT %s"
)
_OLD: Final = "SELECT tenant, sha256 FROM blobs WHERE stored_at < %s"
_DROP: Final = "DELETE FROM blobs WHERE tenant = %s AND sha256 = %s AND stored_at < %s"
_READINGS: Final = "SELECT tenant, key, fields->>'blob' FROM records WHERE kind = 'extraction'"
OTHERS: Final = (
    "SELECT kind, tenant, key, value FROM records WHERE (kind, tenant, key) > (%s, %s, %s) "
    "ORDER BY kind, tenant, key LIMIT %s"
)
_DROP_READING: Final = "DELETE FROM records WHERE kind = 'extraction' AND tenant = %s AND key = %s"
# Nobody stores an event or a blob until what is to go is gone. In the order in which a writer takes them.
_STOP: Final = "LOCK TABLE blobs, events IN SHARE ROW EXCLUSIVE MODE"
_DECODE: Final = msgspec.json.Decoder(Tombstone).decode


class PostgresArchive:
    """Implements ``Archive``; made by ``open_store``."""

    def __init__(
        self,
        writer: Writer,
        reader: Reader,
        checkpoints: PostgresCheckpoints,
        *,
        chain_key: bytes,
        sealer: Sealer = PLAIN,
    ) -> None:
        self._sealer = sealer
        self._writer = writer
        self._reader = reader
        self._key = chain_key
        self._checkpoints = checkpoints

    async def links(self, run: str, after: int = 0, limit: int = 1_000) -> tuple[Link, ...]:
        """Events as stored, in order."""
        return tuple(map(self._link, await self._reader.rows(LINKS, (run, after, max(0, limit)))))

    async def verify(self, run: str) -> int | None:
        """The first seq that is not as it was written (0: the tombstone), or None."""

        async def check(connection: Connection) -> int | None:
            cursor = connection.cursor(binary=True)
            row = await (await cursor.execute(_HEAD, (run,))).fetchone()
            head = None if row is None else (row[0], row[1])
            buried = await (await cursor.execute(TOMBSTONE, (run,))).fetchone()
            rows = await (await cursor.execute(LINKS, (run, -(2**62), None))).fetchall()
            links = tuple(map(self._link, rows))
            if buried is not None:
                erased = {x.seq for row, x in zip(rows, links, strict=True) if row[12] is not None and x.body is None}
                return verify(self._key, links, _DECODE(buried[0]), head=head, erased=erased)
            # Without a tombstone a body that is gone counts as changed; one whose key was destroyed does not.
            pairs = zip(rows, links, strict=True)
            whole = (x._replace(body=b"") if row[12] is None else x for row, x in pairs)
            return chain.verify(self._key, whole, head=head)

        try:
            return await self._reader.at_once(check)
        except msgspec.MsgspecError:
            return 0

    async def prune(self, tombstone: Tombstone) -> Tombstone:
        """Removes what ``tombstone`` says and leaves it, signed, in one transaction.

        Raises ``Conflict`` for a run that goes on or has moved since.
        """
        item = _Prune(signed(self._key, tombstone))
        self._writer.put(item)
        await self._writer.settled(item)
        return item.tombstone

    async def tombstones(self, tenant: str, after: str = "", limit: int = 1_000) -> tuple[Tombstone, ...]:
        """What is left of pruned runs, by run."""
        rows = await self._reader.rows(TOMBSTONES, (tenant, after, max(0, limit)))
        return tuple(_DECODE(value) for (value,) in rows)

    async def tombstone(self, run: str) -> Tombstone | None:
        """What is left of ``run`` if it was pruned."""
        return await _find(self._reader, run)

    async def collect(self, *, before: datetime) -> int:
        """Deletes old blobs that no event and no record names.

        What is put again meanwhile is young, and what is named meanwhile is looked at once more in the transaction.
        """
        return await self.collect_unless(nowhere, before=before)

    async def collect_unless(self, elsewhere: Elsewhere, *, before: datetime) -> int:
        """``collect`` that spares what ``elsewhere`` gives; it is asked at first and again right before the end."""
        cutoff = to_us(before)
        (horizon,) = await self._reader.row(_HORIZON) or (0,)
        old = {(tenant, sha256) for tenant, sha256 in await self._reader.rows(_OLD, (cutoff,))}
        named = set(await elsewhere())
        await _note_events(self._reader.rows, 0, named, self._sealer)
        await _note_records(self._reader, named, self._sealer)
        stale = take_readings([(t, k, b) for t, k, b in await self._reader.rows(_READINGS)], named)
        if not old - named and not stale:
            return 0
        item = _Collect(
            sorted(old - named - await elsewhere()), stale, horizon=horizon, cutoff=cutoff, sealer=self._sealer
        )
        self._writer.put(item)
        await self._writer.settled(item)
        return item.count

    async def names(self, after: str = "") -> tuple[Names, str]:
        """Blobs named by events stored behind the cursor ``after``, and the cursor to go on from."""
        (horizon,) = await self._reader.row(_HORIZON) or (0,)
        named: Names = set()
        await _note_events(self._reader.rows, int(after or 0), named, self._sealer)
        # Whatever was under way meanwhile is at the horizon of that moment, or behind it.
        return named, str(horizon - 1)

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


class _Prune(Deed):
    __slots__ = ("tombstone",)

    def __init__(self, tombstone: Tombstone) -> None:
        super().__init__()
        self.tombstone = tombstone

    async def act(self, connection: Connection) -> None:
        t = self.tombstone
        batch = Batch()
        locked = batch.add(LOCK, [(t.run,)])
        await batch.exchange(connection)
        head = next(batch.rows(locked), None)
        if head is None or (head[3], head[4].hex()) != (t.seq, t.mac) or head[2] not in FINISHED:
            raise Conflict(f"{t.run} has moved since it was looked at: it is not pruned", run=t.run)
        if t.what == "run":
            await connection.execute(DROP_EVENTS, (t.run, t.kept))
            await connection.execute(_DROP_FENCES, (t.run,))
        else:
            await connection.execute(DROP_BODIES, (t.run, t.kept))
        await connection.execute(_BURY, (t.run, t.tenant, msgspec.json.encode(t)))


class _Collect(Deed):
    __slots__ = ("_blobs", "_cutoff", "_horizon", "_readings", "_sealer", "count")

    def __init__(
        self,
        names: Sequence[tuple[str, str]],
        readings: Sequence[tuple[str, str]],
        *,
        horizon: int,
        cutoff: int,
        sealer: Sealer,
    ) -> None:
        super().__init__()
        self._sealer = sealer
        self._blobs = names
        self._readings = readings
        self._horizon = horizon
        self._cutoff = cutoff
        self.count = 0

    async def act(self, connection: Connection) -> None:
        async def rows(query: str, values: Sequence[object] = ()) -> list[Any]:
            cursor: Any = connection.cursor(binary=True)
            await cursor.execute(query, values)
            found: list[Any] = await cursor.fetchall()
            return found

        await connection.execute(_STOP)
        named: Names = set()
        # Whatever was under way when it was read is at the horizon of that moment, or behind it.
        await _note_events(rows, self._horizon - 1, named, self._sealer)
        self.count = 0
        for tenant, sha256 in self._blobs:
            if (tenant, sha256) not in named:
                self.count += (await connection.execute(_DROP, (tenant, sha256, self._cutoff))).rowcount
        for key in self._readings:
            await connection.execute(_DROP_READING, key)


async def tell_pruned(reader: Reader, run: str) -> None:
    """Raises ``NotFound`` with what is left of ``run``, if it was pruned."""
    found = await _find(reader, run)
    if found is not None:
        raise NotFound(str(found), run=run, pruned=True)


async def _find(reader: Reader, run: str) -> Tombstone | None:
    row = await reader.row(TOMBSTONE, (run,))
    return None if row is None else _DECODE(row[0])


async def _note_events(rows: Any, pos: int, named: Names, sealer: Sealer) -> None:
    """Adds the blobs that are named by events behind ``pos``; ``rows`` runs a query."""
    last: tuple[object, ...] = (pos, "\U0010ffff", 0)
    large: Names = set()
    while page := await rows(NAMING, (*last, _PAGE)):
        for _, run, seq, tenant, blob, body in page:
            if blob is not None:
                large.add((tenant, blob))
            plain = plain_or_nothing(opened_body, sealer, tenant, run, seq, blob=None, body=body or b"")
            named.update((tenant, name) for name in names_in(plain))
        last = page[-1][:3]
    named |= large
    # One at a time: there may be many, and they may be large.
    for tenant, blob in large:
        for (data,) in await rows(blobs.GET, (tenant, blob)):
            plain = plain_or_nothing(opened_blob, sealer, tenant, blob, data)
            named.update((tenant, name) for name in names_in(plain))


async def _note_records(reader: Reader, named: Names, sealer: Sealer) -> None:
    last: tuple[object, ...] = ("", "", "")
    while page := await reader.rows(OTHERS, (*last, _PAGE)):
        for kind, tenant, key, value in page:
            if kind != "extraction":
                plain = plain_or_nothing(opened_record, sealer, kind, tenant, key, value)
                named.update((tenant, name) for name in names_in(plain))
        last = page[-1][:3]


def _link(row: tuple[Any, ...]) -> Link:
    *envelope, body, blob = row
    return Link._make((*envelope, b"" if body is None and blob is not None else body))
