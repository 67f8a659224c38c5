"""Several processes on one store, and processes that are killed while they write."""

import asyncio
import os
import sqlite3
import sys
from collections import Counter
from pathlib import Path

import pytest

import collegium
from collegium.adapters.sqlite.store import open_store
from collegium.testing.conformance.drafts import begin

SCRIPT = Path(__file__).with_name("journal_process.py")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(collegium.__file__).parents[1])}


async def start(path: Path, name: str, count: int) -> asyncio.subprocess.Process:
    command = [sys.executable, str(SCRIPT), str(path), name, str(count)]
    return await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, env=ENVIRONMENT)


async def check_store(path: Path, reported: list[str]) -> None:
    """All that was reported is there, at its place, once; every chain holds."""
    store = open_store(path)
    lines = [line.split() for line in reported]
    places = {(run, int(seq)): id_ for run, seq, id_ in lines}
    assert len(places) == len(lines)
    for run in {run for run, _, _ in lines}:
        events = await store.journal.read(run, limit=100_000)
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        assert max(Counter(event.id for event in events).values()) == 1
        assert await store.journal.verify(run) is None
        ids = {(run, event.seq): event.id for event in events}
        assert {place: id_ for place, id_ in places.items() if place[0] == run}.items() <= ids.items()
    await store.aclose()
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


async def test_two_processes_lose_and_double_nothing(tmp_path):
    store = open_store(tmp_path / "store.db")
    await begin(store.journal, "run_shared")
    processes = [await start(tmp_path / "store.db", name, 60) for name in ("one", "two")]
    outputs = [(await process.communicate())[0].decode().splitlines() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    await check_store(tmp_path / "store.db", outputs[0] + outputs[1])
    events = await store.journal.read("run_shared", limit=1_000)
    assert len(events) == 1 + 2 * 2 * 60
    await store.aclose()


@pytest.mark.parametrize("lines", [1, 20, 55, 110])
async def test_what_was_durable_survives_a_kill(tmp_path, lines):
    store = open_store(tmp_path / "store.db")
    await begin(store.journal, "run_shared")
    await store.aclose()
    process = await start(tmp_path / "store.db", "one", 10_000)
    assert process.stdout is not None
    reported = [(await process.stdout.readline()).decode() for _ in range(lines)]
    process.kill()
    rest = (await process.stdout.read()).decode()
    await process.wait()
    reported += [line for line in rest.splitlines(keepends=True) if line.endswith("\n")]
    await check_store(tmp_path / "store.db", [line.strip() for line in reported])
    process = await start(tmp_path / "store.db", "two", 5)
    output = (await process.communicate())[0].decode().splitlines()
    assert process.returncode == 0
    await check_store(tmp_path / "store.db", output)
