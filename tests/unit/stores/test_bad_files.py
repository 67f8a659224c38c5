"""Store files that go wrong under a running process, or are no files at all: what is said, and what is left."""

import asyncio
import os
import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from collegium.adapters.clock import SystemClock
from collegium.adapters.presence import FilePresence
from collegium.adapters.sqlite.store import SqliteStore, open_store
from collegium.app import Stores
from collegium.domain.chat import ModelReply, ModelRequest, ToolCall
from collegium.domain.errors import CollegiumError, StoreCorrupt, StoreUnavailable, exit_code
from collegium.domain.event import Event
from collegium.domain.plan import Plan, Task
from collegium.testing.conformance.drafts import begin, noted
from collegium.testing.harness import memory_stores, team
from collegium.testing.scripted import ScriptedModel, Step


async def filled(path: Path, *, notes: int = 30) -> SqliteStore:
    store = open_store(path)
    await begin(store.journal, "run_a", notes=notes)
    return store


def says_what_to_do(error: CollegiumError, path: Path) -> None:
    assert str(path) in error.message
    assert not error.retryable
    assert exit_code(error) == 5


@pytest.mark.parametrize("how", ["deleted", "replaced", "emptied", "its folder moved"])
async def test_a_file_that_is_taken_away_is_noticed_and_nothing_is_lost(tmp_path: Path, how: str) -> None:
    path = tmp_path / "data" / "store.db"
    store = await filled(path)
    before = await store.journal.read("run_a")
    match how:
        case "deleted":
            path.unlink()
        case "replaced":
            other = await filled(tmp_path / "other.db")
            await other.aclose()
            shutil.move(tmp_path / "other.db", path)
        case "emptied":
            os.truncate(path, 0)
        case _:
            path.parent.rename(tmp_path / "moved")
            path.parent.mkdir()
    with pytest.raises(StoreCorrupt, match="while it was in use") as caught:
        await store.journal.append("run_a", [noted("late")]).durable()
    says_what_to_do(caught.value, path)
    with pytest.raises(StoreCorrupt, match=r"while it was in use|is damaged"):
        await store.records.delete("k", "acme", "a")
    await store.aclose()
    if how in ("deleted", "its folder moved"):
        assert not path.exists(), "no new file is made in its place"
    if how == "emptied":
        return
    rescued = path.with_name("store.db.rescued1")
    assert str(rescued) in caught.value.message
    saved = open_store(rescued)
    events = await saved.journal.read("run_a")
    assert events[: len(before)] == before
    assert await saved.journal.verify("run_a") is None
    assert saved.meta == store.meta
    await saved.aclose()


async def test_a_file_that_is_gone_when_the_store_is_closed_is_saved_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = await filled(tmp_path / "store.db")
    before = await store.journal.read("run_a")
    (tmp_path / "store.db").unlink()
    await store.aclose()
    assert "was deleted while it was in use" in caplog.text
    shutil.move(tmp_path / "store.db.rescued1", tmp_path / "store.db")
    again = open_store(tmp_path / "store.db")
    assert await again.journal.read("run_a") == before
    await again.aclose()


async def test_what_cannot_be_saved_is_said(tmp_path: Path) -> None:
    store = await filled(tmp_path / "data" / "store.db")
    shutil.rmtree(tmp_path / "data")
    with pytest.raises(StoreCorrupt, match=r"could not be saved .* restore it from a backup"):
        await store.journal.append("run_a", [noted("late")]).durable()
    await store.aclose()
    assert not (tmp_path / "data").exists()


async def test_a_file_cut_short_under_a_running_process_is_damaged_never_misread(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    store = await filled(path, notes=2_000)
    await store.aclose()
    store = open_store(path)
    whole: list[Event] = []
    await read_into(whole, store)
    os.truncate(path, path.stat().st_size // 2)
    read: list[Event] = []
    with pytest.raises(StoreCorrupt, match=r"store\.db is damaged"):
        await read_into(read, store)
    assert len(read) < len(whole)
    assert read == whole[: len(read)]
    await store.aclose()


async def read_into(read: list[Event], store: SqliteStore) -> None:
    after = 0
    while events := await store.journal.read("run_a", after, 50):
        read += events
        after = events[-1].seq


@pytest.mark.parametrize("kind", ["folder", "pipe", "link to nowhere in a file"])
def test_what_is_no_file_is_no_store(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "store.db"
    match kind:
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case _:
            (tmp_path / "file").touch()
            path.symlink_to(tmp_path / "file" / "store.db")
    with pytest.raises(CollegiumError) as caught:
        open_store(path)
    assert exit_code(caught.value) == 5
    assert str(path) in caught.value.message


def test_a_store_that_another_process_keeps_to_itself_is_said_to_be_locked(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    open_store(path).close()
    rival = sqlite3.connect(path, isolation_level=None)
    rival.execute("PRAGMA locking_mode=EXCLUSIVE")
    rival.execute("BEGIN EXCLUSIVE")
    rival.execute("INSERT INTO meta VALUES ('x', 'y')")
    rival.execute("COMMIT")
    with pytest.raises(StoreUnavailable, match=r"store\.db is locked by another process") as caught:
        open_store(path, busy_timeout_s=0.05)
    assert caught.value.retryable
    rival.close()
    open_store(path).close()


async def test_a_run_whose_store_is_deleted_stops_with_that_and_goes_on_from_what_was_saved(tmp_path: Path) -> None:
    path = tmp_path / "store.db"

    class Deleting(ScriptedModel):
        async def complete(self, request: ModelRequest) -> ModelReply:
            reply = await super().complete(request)
            if len(self.requests) == 2:
                path.unlink()
            return reply

    look = ToolCall(id="c", name="list_inputs", arguments={})
    plan = Plan(tasks=(Task(id="do", title="Do", capability="operate"),))

    def stores(store: SqliteStore) -> Stores:
        memory = memory_stores(SystemClock())
        presence = FilePresence(tmp_path / "workers")
        return replace(memory, journal=store.journal, records=store.records, blobs=store.blobs, presence=presence)

    store = open_store(path)
    async with team(Deleting([Step(tool_calls=(look,), times=9)]), stores=stores(store)) as app:
        run = await app.submit("x", plan=plan)
        with pytest.raises(StoreCorrupt, match="was deleted while it was in use"):
            await asyncio.wait_for(run.result(), 20)
    await store.aclose()
    shutil.move(tmp_path / "store.db.rescued1", path)
    store = open_store(path)
    model = ScriptedModel([Step(reply="Done.", when=lambda r: len(r.messages) >= 4)])
    async with model, team(model, stores=stores(store)) as heir:
        report = await asyncio.wait_for((await heir.resume(run.id)).result(), 20)
        assert report.status == "succeeded"
    await store.aclose()
