"""The archive's suite on every adapter."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from collegium.adapters.memory.archive import MemoryArchive
from collegium.adapters.memory.blobs import MemoryBlobs
from collegium.adapters.memory.journal import MemoryJournal
from collegium.adapters.memory.records import MemoryRecords
from collegium.adapters.postgres.store import open_store as open_postgres
from collegium.adapters.sqlite.store import open_store
from collegium.testing.clock import FakeClock
from collegium.testing.conformance.archive import ArchiveConformance, Opened


class TestMemoryArchive(ArchiveConformance):
    @asynccontextmanager
    async def open(self) -> AsyncIterator[Opened]:
        clock = FakeClock()
        journal, records, blobs = MemoryJournal(), MemoryRecords(), MemoryBlobs(clock)
        archive = MemoryArchive(journal, records, blobs)
        yield Opened(journal=journal, archive=archive, records=records, blobs=blobs, clock=clock)


class TestSqliteArchive(ArchiveConformance):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.path = tmp_path / "store.db"

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Opened]:
        clock = FakeClock()
        store = open_store(self.path, clock=clock, chain_key=b"k" * 32)
        yield Opened(
            journal=store.journal, archive=store.archive, records=store.records, blobs=store.blobs, clock=clock
        )
        await store.aclose()


class TestPostgresArchive(ArchiveConformance):
    @pytest.fixture(autouse=True)
    def _database(self, postgres_stores: Callable[[int], str]) -> None:
        self.url = postgres_stores(0)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Opened]:
        clock = FakeClock()
        store = await open_postgres(self.url, clock=clock, chain_key=b"k" * 32)
        yield Opened(
            journal=store.journal, archive=store.archive, records=store.records, blobs=store.blobs, clock=clock
        )
        await store.aclose()
