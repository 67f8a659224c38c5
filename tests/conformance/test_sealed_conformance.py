"""Journal, fences, records, blobs and archive once more, on stores that encrypt what they keep."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from collegium.adapters.encryption.aes_gcm import AesKek
from collegium.adapters.encryption.keys import KeyRing
from collegium.adapters.postgres.key_shelf import PostgresKeyShelf
from collegium.adapters.postgres.store import open_store as open_postgres
from collegium.adapters.sqlite.key_shelf import SqliteKeyShelf
from collegium.adapters.sqlite.store import open_store
from collegium.testing.clock import FakeClock
from collegium.testing.conformance.archive import ArchiveConformance, Opened
from collegium.testing.conformance.blobs import BlobsConformance
from collegium.testing.conformance.fences import FenceConformance
from collegium.testing.conformance.journal import JournalConformance
from collegium.testing.conformance.records import RecordsConformance


class _Sqlite:
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.path = tmp_path / "store.db"

    @asynccontextmanager
    async def store(self, **kwargs: Any) -> AsyncIterator[Any]:
        ring = KeyRing(AesKek(b"k" * 32, source="test"), SqliteKeyShelf(self.path), refresh_s=0.01)
        store = open_store(self.path, sealer=ring, **kwargs)
        yield store
        await store.aclose()
        ring.close()


class _Postgres:
    @pytest.fixture(autouse=True)
    def _database(self, postgres_stores: Callable[[int], str]) -> None:
        self.url = postgres_stores(0)

    @asynccontextmanager
    async def store(self, **kwargs: Any) -> AsyncIterator[Any]:
        ring = KeyRing(AesKek(b"k" * 32, source="test"), PostgresKeyShelf(self.url), refresh_s=0.01)
        store = await open_postgres(self.url, sealer=ring, **kwargs)
        yield store
        await store.aclose()
        ring.close()


class _Pair:
    part = "journal"
    store: Callable[..., Any]

    @asynccontextmanager
    async def open(self):
        async with self.store() as store:
            yield getattr(store, self.part)

    @asynccontextmanager
    async def open_pair(self):
        async with self.open() as one, self.open() as two:
            yield one, two


class _Archive(ArchiveConformance):
    store: Callable[..., Any]

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Opened]:
        clock = FakeClock()
        async with self.store(clock=clock, chain_key=b"k" * 32) as store:
            yield Opened(
                journal=store.journal, archive=store.archive, records=store.records, blobs=store.blobs, clock=clock
            )


class TestSealedSqliteJournal(_Sqlite, _Pair, JournalConformance): ...


class TestSealedPostgresJournal(_Postgres, _Pair, JournalConformance): ...


class TestSealedSqliteFences(_Sqlite, _Pair, FenceConformance): ...


class TestSealedSqliteRecords(_Sqlite, _Pair, RecordsConformance):
    part = "records"


class TestSealedPostgresRecords(_Postgres, _Pair, RecordsConformance):
    part = "records"


class TestSealedSqliteBlobs(_Sqlite, _Pair, BlobsConformance):
    part = "blobs"


class TestSealedPostgresBlobs(_Postgres, _Pair, BlobsConformance):
    part = "blobs"


class TestSealedSqliteArchive(_Sqlite, _Archive): ...


class TestSealedPostgresArchive(_Postgres, _Archive): ...
