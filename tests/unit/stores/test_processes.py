"""Several processes on one store, and processes that are killed while they write."""

import asyncio
import os
import sys
from collections import Counter
from pathlib import Path

import pytest

import collegium
from collegium.adapters.encryption.file_key import FileKey
from collegium.adapters.sqlite.driver import open_file
from collegium.adapters.sqlite.store import open_store
from collegium.testing.conformance.drafts import begin

KEY = "ab" * 32
SCRIPT = Path(__file__).with_name("journal_process.py")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(collegium.__file__).parents[1])}


async def start(path: Path, name: str, count: int, key: str = "") -> asyncio.subprocess.Process:
    command = [sys.executable, str(SCRIPT), str(path), name, str(count), *([key] if key else [])]
    return await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, env=ENVIRONMENT)


def key_of(text: str) -> FileKey | None:
    return FileKey(bytes.fromhex(text)) if text else None


async def check_store(path: Path, reported: list[str], key: str = "") -> None:
    """All that was reported is there, at its place, once; every chain holds."""
    store = open_store(path, key=key_of(key))
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
    connection = open_file(path, key_of(key), timeout_s=5)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


@pytest.mark.parametrize("key", ["", KEY], ids=["plain", "encrypted"])
async def test_two_processes_lose_and_double_nothing(tmp_path, key):
    store = open_store(tmp_path / "store.db", key=key_of(key))
    await begin(store.journal, "run_shared")
    processes = [await start(tmp_path / "store.db", name, 60, key) for name in ("one", "two")]
    outputs = [(await process.communicate())[0].decode().splitlines() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    await check_store(tmp_path / "store.db", outputs[0] + outputs[1], key)
    events = await store.journal.read("run_shared", limit=1_000)
    assert len(events) == 1 + 2 * 2 * 60
    await store.aclose()


@pytest.mark.parametrize(
    ("lines", "key"), [(1, ""), (20, ""), (55, ""), (110, ""), (55, KEY)], ids=["1", "20", "55", "110", "encrypted"]
)
async def test_what_was_durable_survives_a_kill(tmp_path, lines, key):
    store = open_store(tmp_path / "store.db", key=key_of(key))
    await begin(store.journal, "run_shared")
    await store.aclose()
    process = await start(tmp_path / "store.db", "one", 10_000, key)
    assert process.stdout is not None
    reported = [(await process.stdout.readline()).decode() for _ in range(lines)]
    process.kill()
    rest = (await process.stdout.read()).decode()
    await process.wait()
    reported += [line for line in rest.splitlines(keepends=True) if line.endswith("\n")]
    await check_store(tmp_path / "store.db", [line.strip() for line in reported], key)
    process = await start(tmp_path / "store.db", "two", 5, key)
    output = (await process.communicate())[0].decode().splitlines()
    assert process.returncode == 0
    await check_store(tmp_path / "store.db", output, key)
