"""The cache's suite on every adapter."""

import itertools
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from collegium.adapters.memory.cache import MemoryCache
from collegium.adapters.redis.cache import RedisCache
from collegium.adapters.redis.connection import RedisConnection
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


_prefixes = itertools.count(1)


class TestRedisCache(CacheConformance):
    @pytest.fixture(autouse=True)
    def _server(self, redis) -> None:
        self.url = redis.url

    @asynccontextmanager
    async def open(self, clock):
        connection = RedisConnection(self.url)
        yield RedisCache(connection, clock, prefix=f"clg:cache:{next(_prefixes)}:", limit_bytes=LIMIT_BYTES)
        await connection.aclose()
