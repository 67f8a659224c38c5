"""The directories' suite on the records of a store, and what is its own of that adapter."""

from __future__ import annotations

from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from collegium.adapters.memory.records import MemoryRecords
from collegium.adapters.record_directory import FORGOTTEN, RECORD, TENANT, RecordDirectory
from collegium.adapters.sqlite.store import open_store
from collegium.domain.record import Record
from collegium.testing.clock import FakeClock
from collegium.testing.conformance.directory import DirectoryConformance, card


class TestMemoryRecords(DirectoryConformance):
    @asynccontextmanager
    async def open(self, clock):
        yield RecordDirectory(MemoryRecords(), clock)

    @asynccontextmanager
    async def open_pair(self, clock):
        records = MemoryRecords()
        yield RecordDirectory(records, clock), RecordDirectory(records, clock)


class TestSqliteRecords(DirectoryConformance):
    @pytest.fixture(autouse=True)
    def _file(self, tmp_path: Path) -> None:
        self.path = tmp_path / "store.db"

    @asynccontextmanager
    async def open(self, clock):
        async with self.open_pair(clock) as (directory, _):
            yield directory

    @asynccontextmanager
    async def open_pair(self, clock):
        one, two = open_store(self.path), open_store(self.path)
        yield RecordDirectory(one.records, clock), RecordDirectory(two.records, clock)
        await one.aclose()
        await two.aclose()


async def test_old_cards_do_not_stay() -> None:
    clock, records = FakeClock(), MemoryRecords()
    directory = RecordDirectory(records, clock)
    await directory.post(card("wrk_1"), ttl_s=10)
    await clock.advance(10 + FORGOTTEN.total_seconds() + 1)
    assert await directory.cards() == ()
    assert await records.find(RECORD, TENANT) == ()


async def test_a_card_of_another_version_is_left_alone() -> None:
    clock, records = FakeClock(), MemoryRecords()
    await records.put(Record(kind=RECORD, tenant=TENANT, key="wrk_0", value={"of": "another version"}))
    directory = RecordDirectory(records, clock)
    shown = msgspec.structs.replace(card("wrk_1"), load=3)
    await directory.post(shown, ttl_s=10)
    assert await directory.cards() == (shown,)
