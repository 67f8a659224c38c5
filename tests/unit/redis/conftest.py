"""What the tests of the Redis adapters share: buses of their own on the server of the test process."""

import itertools
from contextlib import AsyncExitStack

import pytest

from collegium.adapters.bus_rules import BusRules
from collegium.adapters.redis.bus import RedisBus
from collegium.adapters.redis.connection import RedisConnection

_prefixes = itertools.count(1)


@pytest.fixture
def prefix() -> str:
    """A prefix that no other test uses."""
    return f"clg:unit:{next(_prefixes)}:"


@pytest.fixture
async def connect():
    """``connect(url, ...)`` makes a ``RedisConnection`` that is closed after the test."""
    async with AsyncExitStack() as stack:

        def make(url, **options) -> RedisConnection:
            connection = RedisConnection(url, **options)
            stack.push_async_callback(connection.aclose)
            return connection

        yield make


@pytest.fixture
async def open_bus(prefix, connect):
    """``open_bus(url, clock, ...)`` makes a ``RedisBus`` that is closed after the test."""
    async with AsyncExitStack() as stack:

        def make(url, clock, *, patience_s=5.0, **rules) -> RedisBus:
            connection = connect(url, patience_s=patience_s)
            bus = RedisBus(connection, clock, prefix=prefix, rules=BusRules(**rules))
            stack.push_async_callback(bus.aclose)
            return bus

        yield make
