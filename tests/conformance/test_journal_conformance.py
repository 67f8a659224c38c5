"""The journal's suites on every adapter."""

from collections.abc import Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from collegium.adapters.memory.journal import MemoryJournal
from collegium.adapters.postgres.store import open_store as open_postgres
from collegium.adapters.sqlite.store import open_store
from collegium.testing.conformance.fences import FenceConformance
from collegium.testing.conformance.journal import JournalConformance


class _Memory:
    @asynccontextmanager
    async def open(self):
        yield MemoryJournal()


class _Sqlite:
    quick_s = 0.0

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.path = tmp_path / "store.db"

    @asynccontextmanager
    async def open(self):
        store = open_store(self.path, quick_s=self.quick_s)
        yield store.journal
        await store.aclose()

    @asynccontextmanager
    async def open_pair(self):
        one, two = open_store(self.path, quick_s=self.quick_s), open_store(self.path, quick_s=self.quick_s)
        yield one.journal, two.journal
        await one.aclose()
        await two.aclose()


class _OnTheLoop(_Sqlite):
    """Commits are done by whoever waits for them."""

    quick_s = 3_600.0


class _Postgres:
    @pytest.fixture(autouse=True)
    def _database(self, postgres_stores: Callable[[int], str]) -> None:
        self.url = postgres_stores(0)

    @asynccontextmanager
    async def open(self):
        store = await open_postgres(self.url)
        yield store.journal
        await store.aclose()

    @asynccontextmanager
    async def open_pair(self):
        async with self.open() as one, self.open() as two:
            yield one, two


class TestMemoryJournal(_Memory, JournalConformance): ...


class TestSqliteJournal(_Sqlite, JournalConformance): ...


class TestSqliteJournalOnTheLoop(_OnTheLoop, JournalConformance): ...


class TestPostgresJournal(_Postgres, JournalConformance): ...


class TestMemoryFences(_Memory, FenceConformance): ...


class TestSqliteFences(_Sqlite, FenceConformance): ...


class TestSqliteFencesOnTheLoop(_OnTheLoop, FenceConformance): ...


class TestPostgresFences(_Postgres, FenceConformance): ...
