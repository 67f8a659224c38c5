"""The quotas' suite on every adapter."""

import itertools
from contextlib import asynccontextmanager

import pytest

from collegium.adapters.memory.quota import MemoryQuota
from collegium.adapters.redis.connection import RedisConnection
from collegium.adapters.redis.quota import RedisQuota
from collegium.testing.conformance.quota import QuotaConformance

_prefixes = itertools.count(1)


class TestMemoryQuota(QuotaConformance):
    @asynccontextmanager
    async def open(self, clock):
        yield MemoryQuota(clock)


class TestRedisQuota(QuotaConformance):
    @pytest.fixture(autouse=True)
    def _server(self, redis) -> None:
        self.url = redis.url

    @asynccontextmanager
    async def open(self, clock):
        async with self.open_pair(clock) as (quota, _):
            yield quota

    @asynccontextmanager
    async def open_pair(self, clock):
        prefix = f"clg:quota:{next(_prefixes)}:"
        one, two = RedisConnection(self.url), RedisConnection(self.url)
        yield RedisQuota(one, clock, prefix=prefix), RedisQuota(two, clock, prefix=prefix)
        await one.aclose()
        await two.aclose()
