"""The checkpoints' suite on every adapter."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from collegium.adapters.memory.archive import MemoryArchive
from collegium.adapters.memory.blobs import MemoryBlobs
from collegium.adapters.memory.journal import MemoryJournal
from collegium.adapters.memory.records import MemoryRecords
from collegium.adapters.postgres.store import open_store as open_postgres
from collegium.adapters.sqlite.store import open_store
from collegium.testing.clock import FakeClock
from collegium.testing.conformance.archive import Opened
from collegium.testing.conformance.checkpoints import CheckpointConformance


class TestMemoryCheckpoints(CheckpointConformance):
    @asynccontextmanager
    async def open(self) -> AsyncIterator[Opened]:
        clock = FakeClock()
        journal, records, blobs = MemoryJournal(), MemoryRecords(), MemoryBlobs(clock)
        archive = MemoryArchive(journal, records, blobs)
        yield Opened(journal=journal, archive=archive, records=records, blobs=blobs, clock=clock)

    def open_other(self) -> AbstractAsyncContextManager[Opened]:
        return self.open()


class TestSqliteCheckpoints(CheckpointConformance):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    def open(self) -> AbstractAsyncContextManager[Opened]:
        return self._at("store.db")

    def open_other(self) -> AbstractAsyncContextManager[Opened]:
        return self._at("other.db")

    @asynccontextmanager
    async def _at(self, name: str) -> AsyncIterator[Opened]:
        clock = FakeClock()
        store = open_store(self.folder / name, clock=clock, chain_key=b"k" * 32)
        yield Opened(
            journal=store.journal, archive=store.archive, records=store.records, blobs=store.blobs, clock=clock
        )
        await store.aclose()


class TestPostgresCheckpoints(CheckpointConformance):
    @pytest.fixture(autouse=True)
    def _databases(self, postgres_stores: Callable[[int], str]) -> None:
        self.urls = postgres_stores(0), postgres_stores(1)

    def open(self) -> AbstractAsyncContextManager[Opened]:
        return self._at(self.urls[0])

    def open_other(self) -> AbstractAsyncContextManager[Opened]:
        return self._at(self.urls[1])

    @asynccontextmanager
    async def _at(self, url: str) -> AsyncIterator[Opened]:
        clock = FakeClock()
        store = await open_postgres(url, clock=clock, chain_key=b"k" * 32)
        yield Opened(
            journal=store.journal, archive=store.archive, records=store.records, blobs=store.blobs, clock=clock
        )
        await store.aclose()
