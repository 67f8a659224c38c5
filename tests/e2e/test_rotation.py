"""S6: data keys are rotated while processes read and write, the rotation is killed, and nobody notices."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from collegium.adapters.clock import SystemClock
from collegium.config import load_settings
from collegium.domain.chain import PUBLIC_KEY
from collegium.domain.record import Record
from collegium.testing.conformance.drafts import begin, noted
from collegium.wiring.stores import open_stores
from tests.e2e.rotation_worker import TEXT

COMMAND = [sys.executable, "-m", "collegium.cli"]
PROCESS = str(Path(__file__).with_name("rotation_worker.py"))
FILLED = 1_500
WITHIN_S = 60.0


@pytest.fixture(params=["sqlite", "postgres"])
def environ(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    (tmp_path / "kek").write_bytes(os.urandom(32).hex().encode())
    (tmp_path / "data").mkdir()
    found = {k: v for k, v in os.environ.items() if not k.startswith("COLLEGIUM_")}
    found |= {
        "COLLEGIUM_DATA_DIR": str(tmp_path / "data"),
        "COLLEGIUM_ENCRYPTION__KEK_FILE": str(tmp_path / "kek"),
        "COLLEGIUM_ENCRYPTION__REFRESH_S": "0.2",
        "NO_COLOR": "1",
    }
    if request.param == "postgres":
        found["COLLEGIUM_STORE"] = request.getfixturevalue("postgres_url")
    return found


async def fill(environ: dict[str, str]) -> None:
    settings = load_settings(None, environ, {})
    async with open_stores(settings, "none", clock=SystemClock(), chain_key=PUBLIC_KEY, entropy=os.urandom) as stores:
        await begin(stores.journal, "run_first_000000", notes=3)
        value = {"text": TEXT, "n": 0}
        await stores.records.put(Record(kind="note", tenant="acme", key="run_first_000000", value=value))
        await begin(stores.journal, "run_filled", notes=FILLED)
        await stores.journal.append("run_filled", [noted(TEXT)]).durable()


def counts(environ: dict[str, str]) -> dict[int, int]:
    """Bodies by the version of their key, as the database shows them."""
    query = "SELECT key_version, count(*) FROM events WHERE body IS NOT NULL AND tenant = 'acme' GROUP BY 1"
    if "COLLEGIUM_STORE" in environ:
        with psycopg.connect(environ["COLLEGIUM_STORE"]) as connection:
            return dict(connection.execute(query).fetchall())
    path = Path(environ["COLLEGIUM_DATA_DIR"]) / "collegium.db"
    with closing(sqlite3.connect(path, timeout=30)) as file:
        return dict(file.execute(query).fetchall())


def wait_for(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not holds():
        assert time.monotonic() < deadline, what


def start(environ: dict[str, str], *argv: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        argv, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=environ["COLLEGIUM_DATA_DIR"]
    )


def test_keys_are_rotated_under_load_and_through_a_kill(environ: dict[str, str]) -> None:
    asyncio.run(fill(environ))
    workers = [start(environ, sys.executable, PROCESS, f"w{n}") for n in range(2)]
    try:
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "working\n"
        killed = start(environ, *COMMAND, "rotate-dek", "--json")
        wait_for(lambda: counts(environ).get(2, 0) > 0 or killed.poll() is not None, "the rotation began")
        killed.kill()
        killed.communicate()
        between = counts(environ)
        assert between.get(2, 0) > 0, "it was killed after it began"
        assert between.get(1, 0) > 0, "and before it was done"
        again = start(environ, *COMMAND, "rotate-dek", "--json")
        out, err = again.communicate(timeout=WITHIN_S)
        assert again.returncode == 0, err
        assert json.loads(out)["rows"] > 0
        assert set(counts(environ)) == {2}, "the second one went on with the first one's keys, and ended it"
    finally:
        for worker in workers:
            worker.terminate()
    for worker in workers:
        out, err = worker.communicate(timeout=WITHIN_S)
        assert worker.returncode == 0, err
        told: dict[str, Any] = json.loads(out.splitlines()[-1])
        assert told["errors"] == []
        assert told["wrong"] == []
        assert min(told["reads"], told["writes"]) > 10
    assert set(counts(environ)) == {2}
