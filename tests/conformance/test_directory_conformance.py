"""The directories' suite on every adapter."""

import itertools
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from collegium.adapters.directory_files import FileDirectory
from collegium.adapters.memory.directory import MemoryDirectory
from collegium.adapters.redis.connection import RedisConnection
from collegium.adapters.redis.directory import RedisDirectory
from collegium.testing.conformance.directory import DirectoryConformance

_prefixes = itertools.count(1)


class _One(DirectoryConformance):
    @asynccontextmanager
    async def open(self, clock):
        async with self.open_pair(clock) as (directory, _):
            yield directory


class TestMemoryDirectory(_One):
    @asynccontextmanager
    async def open_pair(self, clock):
        board: dict = {}
        yield MemoryDirectory(clock, board=board), MemoryDirectory(clock, board=board)


class TestFileDirectory(_One):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.path = tmp_path / "workers"

    @asynccontextmanager
    async def open_pair(self, clock):
        yield FileDirectory(self.path, clock), FileDirectory(self.path, clock)


class TestRedisDirectory(_One):
    @pytest.fixture(autouse=True)
    def _server(self, redis) -> None:
        self.url = redis.url

    @asynccontextmanager
    async def open_pair(self, clock):
        prefix = f"clg:directory:{next(_prefixes)}:"
        one, two = RedisConnection(self.url), RedisConnection(self.url)
        yield RedisDirectory(one, clock, prefix=prefix), RedisDirectory(two, clock, prefix=prefix)
        await one.aclose()
        await two.aclose()
