"""The suites of journals, fences, archives, checkpoints and blobs on stores over several shards."""

import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from collegium.adapters.postgres.store import open_store as open_postgres
from collegium.adapters.sharded.archive import ShardedArchive
from collegium.adapters.sharded.blobs import GuardedBlobs
from collegium.adapters.sharded.journal import ShardedJournal
from collegium.adapters.sharded.shard import OpenShard, Shard
from collegium.adapters.sharded.shards import Shards
from collegium.domain.event import Draft
from collegium.domain.head import Fence, HeadChange
from collegium.ports import Blobs, Journal, Receipt
from collegium.testing.clock import FakeClock
from collegium.testing.conformance.archive import ArchiveConformance, Opened
from collegium.testing.conformance.blobs import BlobsConformance
from collegium.testing.conformance.checkpoints import CheckpointConformance
from collegium.testing.conformance.fences import FenceConformance
from collegium.testing.conformance.journal import JournalConformance
from tests.unit.sharded.stores import scattered, sharded


class _Sharded:
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.path = tmp_path

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Journal]:
        async with sharded(self.path, route=scattered(3)) as s:
            yield s.journal

    @asynccontextmanager
    async def open_pair(self) -> AsyncIterator[tuple[Journal, Journal]]:
        async with AsyncExitStack() as stack:
            one, two = [await stack.enter_async_context(self.open()) for _ in range(2)]
            yield one, two


class _Behind(ShardedJournal):
    """Before every append a blob is put, so that it has to wait for the catalogue."""

    blobs: Blobs
    _count = itertools.count()

    def append(
        self,
        run: str,
        drafts: Sequence[Draft],
        *,
        expected: int | None = None,
        fence: Fence | tuple[Fence, ...] | None = None,
        head: HeadChange | None = None,
    ) -> Receipt:
        self.blobs.put("acme", str(next(self._count)).encode())
        return super().append(run, drafts, expected=expected, fence=fence, head=head)


class _ShardedBehindBlobs(_Sharded):
    @asynccontextmanager
    async def open(self) -> AsyncIterator[Journal]:
        async with sharded(self.path, route=scattered(3)) as s:
            journal = _Behind(s.shards, s.blobs)
            journal.blobs = s.blobs
            yield journal
            await journal.aclose()


class TestShardedJournal(_Sharded, JournalConformance): ...


class TestShardedJournalBehindBlobs(_ShardedBehindBlobs, JournalConformance): ...


class TestShardedFences(_Sharded, FenceConformance): ...


class TestShardedFencesBehindBlobs(_ShardedBehindBlobs, FenceConformance): ...


class TestShardedBlobs(BlobsConformance):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.path = tmp_path

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Blobs]:
        async with sharded(self.path, 2) as s:
            yield s.blobs


class _Kept:
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.path = tmp_path

    @asynccontextmanager
    async def _at(self, name: str) -> AsyncIterator[Opened]:
        # Everything in one shard that is not the catalogue: the suites count the checkpoints of one chain.
        async with sharded(self.path / name, route=lambda run: 2) as s:
            yield Opened(
                journal=s.journal, archive=s.archive, records=s.stores[0].records, blobs=s.blobs, clock=s.clock
            )

    def open(self) -> AbstractAsyncContextManager[Opened]:
        return self._at("stores")

    def open_other(self) -> AbstractAsyncContextManager[Opened]:
        return self._at("others")


class TestShardedArchive(_Kept, ArchiveConformance): ...


class TestShardedCheckpoints(_Kept, CheckpointConformance): ...


class _ShardedPostgres:
    @pytest.fixture(autouse=True)
    def _databases(self, postgres_stores: Callable[[int], str]) -> None:
        self.urls = [postgres_stores(0), postgres_stores(1)]

    @asynccontextmanager
    async def _stores(self) -> AsyncIterator[Opened]:
        clock = FakeClock()
        stores = [await open_postgres(url, clock=clock, chain_key=b"k" * 32) for url in self.urls]
        shards = Shards(
            [
                Shard(
                    n,
                    place=f"database {n}",
                    clock=clock,
                    opened=OpenShard(journal=store.journal, archive=store.archive, aclose=store.aclose),
                )
                for n, store in enumerate(stores)
            ],
            route=scattered(2),
        )
        blobs = GuardedBlobs(stores[0].blobs)
        journal = ShardedJournal(shards, blobs)
        yield Opened(
            journal=journal, archive=ShardedArchive(shards), records=stores[0].records, blobs=blobs, clock=clock
        )
        await journal.aclose()
        await blobs.aclose()
        await shards.aclose()


class TestShardedPostgresJournal(_ShardedPostgres, JournalConformance):
    @asynccontextmanager
    async def open(self) -> AsyncIterator[Journal]:
        async with self._stores() as s:
            yield s.journal

    @asynccontextmanager
    async def open_pair(self) -> AsyncIterator[tuple[Journal, Journal]]:
        async with self.open() as one, self.open() as two:
            yield one, two


class TestShardedPostgresArchive(_ShardedPostgres, ArchiveConformance):
    def open(self) -> AbstractAsyncContextManager[Opened]:
        return self._stores()
