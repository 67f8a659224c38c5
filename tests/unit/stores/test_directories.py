"""The cards of workers, wherever they are shown."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from collegium.adapters.directories import FORGOTTEN, FileDirectory, RecordDirectory
from collegium.adapters.memory.records import MemoryRecords
from collegium.adapters.sqlite.store import open_store
from collegium.domain.errors import StoreUnavailable
from collegium.domain.worker import AgentCard, WorkerCard
from collegium.ports import Directory
from collegium.testing.clock import FakeClock

AT = datetime(2026, 1, 1, tzinfo=UTC)


def card(worker: str, **changes: object) -> WorkerCard:
    usual = WorkerCard(
        worker=worker,
        host="one",
        pid=7,
        version="1",
        started_at=AT,
        at=AT,
        capabilities=("plan", "write"),
        agents=(AgentCard(name="writer", version="ab", capabilities=("write",)),),
    )
    return msgspec.structs.replace(usual, **changes)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(params=["file", "memory records", "sqlite records"])
async def directory(request: pytest.FixtureRequest, tmp_path: Path, clock: FakeClock) -> AsyncIterator[Directory]:
    if request.param == "file":
        yield FileDirectory(tmp_path / "workers", clock)
    elif request.param == "memory records":
        yield RecordDirectory(MemoryRecords(), clock)
    else:
        store = open_store(tmp_path / "store.db")
        yield RecordDirectory(store.records, clock)
        await store.aclose()


async def test_nobody_is_there_at_first(directory: Directory) -> None:
    assert await directory.cards() == ()
    await directory.remove("wrk_1")


async def test_the_last_card_of_each_worker_is_shown(directory: Directory) -> None:
    await directory.post(card("wrk_2"), ttl_s=10)
    await directory.post(card("wrk_1"), ttl_s=10)
    await directory.post(card("wrk_2", state="draining", load=3, lag_s=0.25), ttl_s=10)
    assert await directory.cards() == (card("wrk_1"), card("wrk_2", state="draining", load=3, lag_s=0.25))


async def test_a_card_counts_for_its_time(directory: Directory, clock: FakeClock) -> None:
    await directory.post(card("wrk_1"), ttl_s=10)
    await clock.advance(6)
    await directory.post(card("wrk_2"), ttl_s=10)
    await clock.advance(6)
    assert [one.worker for one in await directory.cards()] == ["wrk_2"]


async def test_who_leaves_is_gone(directory: Directory) -> None:
    await directory.post(card("wrk_1"), ttl_s=10)
    await directory.remove("wrk_1")
    await directory.remove("wrk_1")
    assert await directory.cards() == ()


async def test_old_files_do_not_stay(tmp_path: Path, clock: FakeClock) -> None:
    directory = FileDirectory(tmp_path, clock)
    await directory.post(card("wrk_1"), ttl_s=10)
    (tmp_path / "wrk_2.card").write_text("of another version")
    await clock.advance(10 + FORGOTTEN.total_seconds() + 1)
    assert await directory.cards() == ()
    assert names(tmp_path) == ["wrk_2.card"]


async def test_old_records_do_not_stay(clock: FakeClock) -> None:
    records = MemoryRecords()
    directory = RecordDirectory(records, clock)
    await directory.post(card("wrk_1"), ttl_s=10)
    await clock.advance(10 + FORGOTTEN.total_seconds() + 1)
    assert await directory.cards() == ()
    assert await records.find("worker_card", "~fleet") == ()


async def test_a_folder_that_cannot_be_written_is_a_store_that_is_away(tmp_path: Path, clock: FakeClock) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreUnavailable):
        await FileDirectory(tmp_path / "file" / "workers", clock).post(card("wrk_1"), ttl_s=10)
