"""Sharded stores of SQLite files whose shards can be cut off, for these tests."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from collegium.adapters.blob_rules import Elsewhere, Names
from collegium.adapters.memory.bus import MemoryBus
from collegium.adapters.presence import MemoryPresence
from collegium.adapters.sharded.archive import ShardedArchive
from collegium.adapters.sharded.blobs import GuardedBlobs
from collegium.adapters.sharded.journal import ShardedJournal
from collegium.adapters.sharded.placement import Placement
from collegium.adapters.sharded.shard import OpenShard, Shard
from collegium.adapters.sharded.shards import Shards, shard_by_id
from collegium.adapters.sqlite.archive import SqliteArchive
from collegium.adapters.sqlite.journal import SqliteJournal
from collegium.adapters.sqlite.store import SqliteStore, open_store
from collegium.app import Stores
from collegium.domain.chain import Link
from collegium.domain.checkpoint import Checkpoint, Coverage
from collegium.domain.errors import StoreUnavailable
from collegium.domain.event import Draft, Event
from collegium.domain.head import Fence, Head, HeadChange, HeadQuery
from collegium.domain.tombstone import Tombstone
from collegium.ports import Clock, Receipt
from collegium.testing.clock import FakeClock

KEY = b"k" * 32


class Line:
    """The way to a shard, which can be cut."""

    def __init__(self, place: str) -> None:
        self.place = place
        self.is_cut = False

    def check(self) -> None:
        """Raises ``StoreUnavailable`` while it is cut."""
        if self.is_cut:
            raise StoreUnavailable(f"{self.place} cannot be used now (cut)", store=self.place)


class CutReceipt:
    """An append that did not arrive."""

    def __init__(self, line: Line) -> None:
        self._error = StoreUnavailable(f"{line.place} cannot be used now (cut)", store=line.place)

    async def durable(self) -> tuple[Event, ...]:
        raise self._error


class CuttableJournal:
    """A journal behind a line."""

    def __init__(self, inner: SqliteJournal, line: Line) -> None:
        self._inner, self._line = inner, line

    def append(
        self,
        run: str,
        drafts: Sequence[Draft],
        *,
        expected: int | None = None,
        fence: Fence | tuple[Fence, ...] | None = None,
        head: HeadChange | None = None,
    ) -> Receipt:
        if self._line.is_cut:
            return CutReceipt(self._line)
        return self._inner.append(run, drafts, expected=expected, fence=fence, head=head)

    async def read(self, run: str, after: int = 0, limit: int = 1_000) -> tuple[Event, ...]:
        self._line.check()
        return await self._inner.read(run, after, limit)

    async def head(self, run: str) -> Head | None:
        self._line.check()
        return await self._inner.head(run)

    async def heads(self, query: HeadQuery) -> tuple[Head, ...]:
        self._line.check()
        return await self._inner.heads(query)

    async def scan(self, after: str = "", limit: int = 1_000) -> tuple[tuple[Event, ...], str]:
        self._line.check()
        return await self._inner.scan(after, limit)


class CuttableArchive:
    """An archive behind a line."""

    def __init__(self, inner: SqliteArchive, line: Line) -> None:
        self._inner, self._line = inner, line

    async def links(self, run: str, after: int = 0, limit: int = 1_000) -> tuple[Link, ...]:
        self._line.check()
        return await self._inner.links(run, after, limit)

    async def verify(self, run: str) -> int | None:
        self._line.check()
        return await self._inner.verify(run)

    async def prune(self, tombstone: Tombstone) -> Tombstone:
        self._line.check()
        return await self._inner.prune(tombstone)

    async def tombstones(self, tenant: str, after: str = "", limit: int = 1_000) -> tuple[Tombstone, ...]:
        self._line.check()
        return await self._inner.tombstones(tenant, after, limit)

    async def tombstone(self, run: str) -> Tombstone | None:
        self._line.check()
        return await self._inner.tombstone(run)

    async def collect(self, *, before: datetime) -> int:
        self._line.check()
        return await self._inner.collect(before=before)

    async def collect_unless(self, elsewhere: Elsewhere, *, before: datetime) -> int:
        self._line.check()
        return await self._inner.collect_unless(elsewhere, before=before)

    async def names(self, after: str = "") -> tuple[Names, str]:
        self._line.check()
        return await self._inner.names(after)

    async def checkpoint(self, *, at: datetime, pause_s: float = 0.0) -> tuple[Checkpoint, ...]:
        self._line.check()
        return await self._inner.checkpoint(at=at, pause_s=pause_s)

    async def checkpoints(self, tenant: str, after: int = 0, limit: int = 1_000) -> tuple[Checkpoint, ...]:
        self._line.check()
        return await self._inner.checkpoints(tenant, after, limit)

    async def covered(self, tenant: str, against: Checkpoint | None = None) -> Coverage:
        self._line.check()
        return await self._inner.covered(tenant, against)


@dataclass(frozen=True, kw_only=True)
class Sharded:
    """Open stores over shards."""

    shards: Shards
    stores: tuple[SqliteStore, ...]
    lines: tuple[Line, ...]
    journal: ShardedJournal
    archive: ShardedArchive
    blobs: GuardedBlobs
    clock: Clock

    def bundle(self) -> Stores:
        """What a Collegium needs."""
        weights = {n: shard.weight for n, shard in self.shards.all.items()}
        return Stores(
            journal=self.journal,
            bus=MemoryBus(self.clock),
            records=self.stores[0].records,
            blobs=self.blobs,
            presence=MemoryPresence(),
            archive=self.archive,
            parts=tuple(self.shards.all.values()),
            place=Placement(weights, is_away=self.shards.is_away),
        )


def scattered(count: int) -> Callable[[str], int]:
    """A route for suites whose runs have short names: by a hash, over ``count`` shards."""
    return lambda run: zlib.crc32(run.encode()) % count


@asynccontextmanager
async def sharded(
    folder: Path,
    count: int = 3,
    *,
    clock: Clock | None = None,
    route: Callable[[str], int] = shard_by_id,
    weights: Sequence[float] = (),
) -> AsyncIterator[Sharded]:
    """Shards 0 to ``count - 1``, each in a file of its own in ``folder``."""
    clock = clock or FakeClock()
    stores = [open_store(folder / f"{n}.db", clock=clock, chain_key=KEY) for n in range(count)]
    lines = [Line(f"{n}.db") for n in range(count)]
    opened = [
        OpenShard(
            journal=CuttableJournal(store.journal, line),
            archive=CuttableArchive(store.archive, line),
            aclose=store.aclose,
        )
        for store, line in zip(stores, lines, strict=True)
    ]
    shards = Shards(
        [
            Shard(n, place=f"{n}.db", clock=clock, weight=weights[n] if weights else 1.0, opened=one)
            for n, one in enumerate(opened)
        ],
        route=route,
    )
    blobs = GuardedBlobs(stores[0].blobs)
    journal = ShardedJournal(shards, blobs)
    try:
        yield Sharded(
            shards=shards,
            stores=tuple(stores),
            lines=tuple(lines),
            journal=journal,
            archive=ShardedArchive(shards),
            blobs=blobs,
            clock=clock,
        )
    finally:
        await journal.aclose()
        await blobs.aclose()
        await shards.aclose()
