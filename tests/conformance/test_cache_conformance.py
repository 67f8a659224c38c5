"""The cache's suite on every adapter."""

from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from collegium.adapters.memory.cache import MemoryCache
from collegium.adapters.sqlite.cache import SqliteCache
from collegium.testing.conformance.cache import LIMIT_BYTES, CacheConformance


class TestMemoryCache(CacheConformance):
    @asynccontextmanager
    async def open(self, clock):
        yield MemoryCache(clock, limit_bytes=LIMIT_BYTES)


class TestSqliteCache(CacheConformance):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.path = tmp_path / "cache.db"

    @asynccontextmanager
    async def open(self, clock):
        cache = SqliteCache(self.path, clock, limit_bytes=LIMIT_BYTES)
        yield cache
        await cache.aclose()
