"""The suite of records on every adapter."""

from collections.abc import Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from collegium.adapters.memory.records import MemoryRecords
from collegium.adapters.postgres.store import open_store as open_postgres
from collegium.adapters.sqlite.store import open_store
from collegium.testing.conformance.records import RecordsConformance


class TestMemoryRecords(RecordsConformance):
    @asynccontextmanager
    async def open(self):
        yield MemoryRecords()


class TestSqliteRecords(RecordsConformance):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.path = tmp_path / "store.db"

    @asynccontextmanager
    async def open(self):
        store = open_store(self.path)
        yield store.records
        await store.aclose()

    @asynccontextmanager
    async def open_pair(self):
        async with self.open() as one, self.open() as two:
            yield one, two


class TestPostgresRecords(RecordsConformance):
    @pytest.fixture(autouse=True)
    def _database(self, postgres_stores: Callable[[int], str]) -> None:
        self.url = postgres_stores(0)

    @asynccontextmanager
    async def open(self):
        store = await open_postgres(self.url)
        yield store.records
        await store.aclose()

    @asynccontextmanager
    async def open_pair(self):
        async with self.open() as one, self.open() as two:
            yield one, two
