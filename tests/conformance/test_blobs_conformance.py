"""The suite of blobs on every adapter."""

from collections.abc import Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from collegium.adapters.memory.blobs import MemoryBlobs
from collegium.adapters.postgres.store import open_store as open_postgres
from collegium.adapters.sqlite.store import open_store
from collegium.testing.conformance.blobs import BlobsConformance


class TestMemoryBlobs(BlobsConformance):
    @asynccontextmanager
    async def open(self):
        yield MemoryBlobs()


class TestSqliteBlobs(BlobsConformance):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.path = tmp_path / "store.db"

    @asynccontextmanager
    async def open(self):
        store = open_store(self.path)
        yield store.blobs
        await store.aclose()


class TestPostgresBlobs(BlobsConformance):
    @pytest.fixture(autouse=True)
    def _database(self, postgres_stores: Callable[[int], str]) -> None:
        self.url = postgres_stores(0)

    @asynccontextmanager
    async def open(self):
        store = await open_postgres(self.url)
        yield store.blobs
        await store.aclose()
