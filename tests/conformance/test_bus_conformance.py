"""The bus's suites on every adapter."""

import itertools
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from collegium.adapters.memory.bus import MemoryBus
from collegium.adapters.redis.bus import RedisBus
from collegium.adapters.sqlite.bus import SqliteBus
from collegium.testing.conformance.bus import RULES, BusConformance
from collegium.testing.conformance.bus_letters import BusLettersConformance
from collegium.testing.conformance.bus_limits import BusLimitsConformance
from collegium.testing.conformance.bus_turns import BusTurnsConformance
from collegium.testing.conformance.bus_waiting import BusWaitingConformance


class _Memory:
    @asynccontextmanager
    async def open(self, clock):
        yield MemoryBus(clock, RULES)


class _Sqlite:
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.paths = (tmp_path / f"bus{n}.db" for n in itertools.count(1))

    @asynccontextmanager
    async def open(self, clock):
        bus = SqliteBus(next(self.paths), clock, rules=RULES)
        yield bus
        await bus.aclose()

    @asynccontextmanager
    async def open_pair(self, clock):
        path = next(self.paths)
        one, two = (SqliteBus(path, clock, rules=RULES) for _ in range(2))
        yield one, two
        await one.aclose()
        await two.aclose()


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


class TestMemoryBusTurns(_Memory, BusTurnsConformance): ...


class TestSqliteBusTurns(_Sqlite, BusTurnsConformance): ...


class TestRedisBusTurns(_Redis, BusTurnsConformance): ...


class TestMemoryBusLimits(_Memory, BusLimitsConformance): ...


class TestSqliteBusLimits(_Sqlite, BusLimitsConformance): ...


class TestRedisBusLimits(_Redis, BusLimitsConformance): ...


class TestMemoryBusLetters(_Memory, BusLettersConformance): ...


class TestSqliteBusLetters(_Sqlite, BusLettersConformance): ...


class TestRedisBusLetters(_Redis, BusLettersConformance): ...


class TestMemoryBusWaiting(_Memory, BusWaitingConformance): ...


class TestSqliteBusWaiting(_Sqlite, BusWaitingConformance): ...


class TestRedisBusWaiting(_Redis, BusWaitingConformance): ...
