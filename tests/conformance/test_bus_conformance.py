"""The bus's suites on every adapter."""

import itertools
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from collegium.adapters.bus_rules import BusRules
from collegium.adapters.memory.bus import MemoryBus
from collegium.adapters.redis.bus import RedisBus
from collegium.adapters.sqlite.bus import SqliteBus
from collegium.testing.conformance.bus import AGING_S, HIDE_S, KEEP, BusConformance
from collegium.testing.conformance.bus_waiting import BusWaitingConformance

RULES = BusRules(hide_s=HIDE_S, aging_s=AGING_S, keep=KEEP)


class _Memory:
    @asynccontextmanager
    async def open(self, clock):
        yield MemoryBus(clock, RULES)


class _Sqlite:
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.path = tmp_path / "bus.db"

    @asynccontextmanager
    async def open(self, clock):
        bus = SqliteBus(self.path, clock, rules=RULES)
        yield bus
        await bus.aclose()

    @asynccontextmanager
    async def open_pair(self, clock):
        async with self.open(clock) as one, self.open(clock) as two:
            yield one, two


_prefixes = itertools.count(1)


class _Redis:
    @pytest.fixture(autouse=True)
    def _server(self, redis) -> None:
        self.url = redis.url

    @asynccontextmanager
    async def open(self, clock):
        bus = RedisBus(self.url, clock, prefix=f"clg:conformance:{next(_prefixes)}:", rules=RULES)
        yield bus
        await bus.aclose()

    @asynccontextmanager
    async def open_pair(self, clock):
        prefix = f"clg:conformance:{next(_prefixes)}:"
        one, two = (RedisBus(self.url, clock, prefix=prefix, rules=RULES) for _ in range(2))
        yield one, two
        await one.aclose()
        await two.aclose()


class TestMemoryBus(_Memory, BusConformance): ...


class TestSqliteBus(_Sqlite, BusConformance): ...


class TestRedisBus(_Redis, BusConformance): ...


class TestMemoryBusWaiting(_Memory, BusWaitingConformance): ...


class TestSqliteBusWaiting(_Sqlite, BusWaitingConformance): ...


class TestRedisBusWaiting(_Redis, BusWaitingConformance): ...
