"""Several processes that sign one store, and processes that are killed while they do."""

import asyncio
import os
import sqlite3
import sys
from pathlib import Path

import pytest

import collegium
from collegium.adapters.sqlite.store import open_store
from collegium.domain import checkpoint
from collegium.domain.errors import StoreError
from collegium.runtime.audit import Verified, verify_all
from collegium.testing.conformance.drafts import NOW, begin, noted

SCRIPT = Path(__file__).with_name("checkpoint_process.py")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(collegium.__file__).parents[1])}
KEY = b"k" * 32


async def start(path: Path, name: str, count: int) -> asyncio.subprocess.Process:
    command = [sys.executable, str(SCRIPT), str(path), name, str(count)]
    return await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, env=ENVIRONMENT)


async def closed(path: Path) -> Verified:
    """What is found once what was left open is signed as well."""
    store = open_store(path, chain_key=KEY)
    try:
        before = await verify_all(store.journal, store.archive, "acme")
        assert before.damaged == ()
        await store.archive.checkpoint(at=NOW)
        return await verify_all(store.journal, store.archive, "acme")
    finally:
        await store.aclose()


async def test_two_processes_write_one_chain(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    open_store(path, chain_key=KEY).close()
    processes = [await start(path, name, 120) for name in ("one", "two")]
    outputs = [(await process.communicate())[0].decode().split() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    numbers = [int(number) for number in outputs[0] + outputs[1]]
    assert sorted(numbers) == list(range(1, len(numbers) + 1)), "each number once, whoever wrote it"
    assert all(outputs)
    found = await closed(path)
    assert (found.damaged, found.open_runs, found.runs) == ((), 0, 6)


@pytest.mark.parametrize("lines", [1, 7, 40])
async def test_a_kill_leaves_a_chain_that_others_go_on_with(tmp_path: Path, lines: int) -> None:
    path = tmp_path / "store.db"
    process = await start(path, "one", 100_000)
    assert process.stdout is not None
    told = [int(await process.stdout.readline()) for _ in range(lines)]
    process.kill()
    rest = (await process.stdout.read()).decode()
    await process.wait()
    told += [int(line) for line in rest.splitlines(keepends=True) if line.endswith("\n")]
    found = await closed(path)
    assert (found.damaged, found.open_runs, found.runs) == ((), 0, 3)
    assert found.newest is not None
    assert found.newest.number >= told[-1]


async def test_a_failing_commit_leaves_neither_the_checkpoint_nor_what_it_would_have_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "SPARE_ENTRIES", 3)
    store = open_store(tmp_path / "store.db", chain_key=KEY)
    await begin(store.journal, "run_a")
    for _ in range(5):
        await store.archive.checkpoint(at=NOW)
        await store.journal.append("run_a", [noted("x")]).durable()
    before = await store.archive.checkpoints("acme")
    connection = sqlite3.connect(tmp_path / "store.db")
    connection.execute(
        "CREATE TRIGGER fails BEFORE UPDATE ON checkpoints BEGIN SELECT raise(ABORT, 'no room for this'); END"
    )
    connection.commit()
    with pytest.raises(StoreError, match="no room for this"):
        await store.archive.checkpoint(at=NOW)
    assert await store.archive.checkpoints("acme") == before
    connection.execute("DROP TRIGGER fails")
    connection.commit()
    connection.close()
    (made,) = await store.archive.checkpoint(at=NOW)
    assert (made.number, made.whole) == (6, 6)
    assert [one.entries for one in await store.archive.checkpoints("acme", 0, 5)] == [None] * 5
    assert (await verify_all(store.journal, store.archive, "acme")).damaged == ()
    await store.aclose()
