"""Sharded stores of SQLite files, for these tests."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from collegium.adapters.memory.bus import MemoryBus
from collegium.adapters.presence import MemoryPresence
from collegium.adapters.sharded.archive import ShardedArchive
from collegium.adapters.sharded.blobs import GuardedBlobs
from collegium.adapters.sharded.journal import ShardedJournal
from collegium.adapters.sharded.shard import OpenShard, Shard
from collegium.adapters.sharded.shards import Shards, shard_by_id
from collegium.adapters.sqlite.store import SqliteStore, open_store
from collegium.app import Stores
from collegium.ports import Clock
from collegium.testing.clock import FakeClock

KEY = b"k" * 32


@dataclass(frozen=True, kw_only=True)
class Sharded:
    """Open stores over shards."""

    shards: Shards
    stores: tuple[SqliteStore, ...]
    journal: ShardedJournal
    archive: ShardedArchive
    blobs: GuardedBlobs
    clock: Clock

    def bundle(self) -> Stores:
        """What a Collegium needs."""
        return Stores(
            journal=self.journal,
            bus=MemoryBus(self.clock),
            records=self.stores[0].records,
            blobs=self.blobs,
            presence=MemoryPresence(),
            archive=self.archive,
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
    quick_s: float = 0.0,
    wrapped: Callable[[Shard], Shard] = lambda shard: shard,
) -> AsyncIterator[Sharded]:
    """Shards 0 to ``count - 1``, each in a file of its own in ``folder``."""
    clock = clock or FakeClock()
    stores = [open_store(folder / f"{n}.db", clock=clock, chain_key=KEY, quick_s=quick_s) for n in range(count)]
    shards = Shards(
        [
            wrapped(
                Shard(
                    n,
                    place=f"{n}.db",
                    clock=clock,
                    weight=weights[n] if weights else 1.0,
                    opened=OpenShard(journal=store.journal, archive=store.archive, aclose=store.aclose),
                )
            )
            for n, store in enumerate(stores)
        ],
        route=route,
    )
    blobs = GuardedBlobs(stores[0].blobs)
    journal = ShardedJournal(shards, blobs)
    try:
        yield Sharded(
            shards=shards,
            stores=tuple(stores),
            journal=journal,
            archive=ShardedArchive(shards),
            blobs=blobs,
            clock=clock,
        )
    finally:
        await journal.aclose()
        await blobs.aclose()
        await shards.aclose()
