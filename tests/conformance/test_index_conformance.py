"""The suite of indexes on every adapter."""

from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from collegium.adapters.memory.index import MemoryIndex
from collegium.adapters.sqlite.index import SqliteIndex
from collegium.domain.errors import StoreCorrupt, StoreError
from collegium.testing.conformance.index import IndexConformance, chunk


class TestMemoryIndex(IndexConformance):
    @asynccontextmanager
    async def open(self):
        yield MemoryIndex()


class TestSqliteIndex(IndexConformance):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.path = tmp_path / "made" / "index.db"

    @asynccontextmanager
    async def open(self):
        index = SqliteIndex(self.path)
        yield index
        await index.aclose()
        await index.aclose()

    @asynccontextmanager
    async def open_pair(self):
        async with self.open() as one, self.open() as two:
            yield one, two

    async def test_it_outlives_its_process(self):
        async with self.open() as index:
            await index.upsert("one", [chunk("cats")], [(1.0, 0.0, 0.0)])
        async with self.open() as index:
            assert (await index.search("one", text="cat", vector=(1.0, 0.0, 0.0)))[0].chunk == chunk("cats")

    async def test_a_damaged_file_is_named(self):
        self.path.parent.mkdir()
        self.path.write_bytes(b"this is no database " * 100)
        async with self.open() as index:
            with pytest.raises(StoreCorrupt, match=r"index\.db.*delete"):
                await index.has("one", ["x"])

    async def test_a_newer_format_is_refused(self):
        import sqlite3

        self.path.parent.mkdir()
        db = sqlite3.connect(self.path)
        db.execute("PRAGMA user_version = 99")
        db.close()
        async with self.open() as index:
            with pytest.raises(StoreError, match="format 99"):
                await index.has("one", ["x"])

    async def test_a_wrong_dimension_is_named(self):
        async with self.open() as index:
            await index.upsert("one", [chunk("cats")], [(1.0, 0.0, 0.0)])
            with pytest.raises(ValueError, match="2 numbers in a space of 3"):
                await index.search("one", vector=(1.0, 0.0))
