"""The journal's suites on every adapter."""

from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from collegium.adapters.memory.journal import MemoryJournal
from collegium.adapters.sqlite.store import open_store
from collegium.testing.conformance.fences import FenceConformance
from collegium.testing.conformance.journal import JournalConformance


class _Memory:
    @asynccontextmanager
    async def open(self):
        yield MemoryJournal()


class _Sqlite:
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.path = tmp_path / "store.db"

    @asynccontextmanager
    async def open(self):
        store = open_store(self.path)
        yield store.journal
        await store.aclose()

    @asynccontextmanager
    async def open_pair(self):
        one, two = open_store(self.path), open_store(self.path)
        yield one.journal, two.journal
        await one.aclose()
        await two.aclose()


class TestMemoryJournal(_Memory, JournalConformance): ...


class TestSqliteJournal(_Sqlite, JournalConformance): ...


class TestMemoryFences(_Memory, FenceConformance): ...


class TestSqliteFences(_Sqlite, FenceConformance): ...
