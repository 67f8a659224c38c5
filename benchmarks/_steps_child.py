"""Measures one system in a process of its own: ``python benchmarks/_steps_child.py SYSTEM < plan.json``.

Reads one JSON document on stdin (a list of passes), writes one JSON line on stdout. CPU time is that of this process,
all its threads included, and of nothing else: the model server runs elsewhere.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

QUESTION = "How many pieces of A-1034 are in stock?"
TOOL = "stock"
TOOL_ABOUT = "Look up how many pieces of an article are in stock."
FOUND = "12 pieces of A-1034 in stock"
"""The tool's result; the scripted model answers for good when it sees it."""

PLANNING = "You plan the work of a team."
GOAL = "Count all pieces of A-1034 on our eight shelves."
ADDING = "Add up the results."
"""What the scripted model knows the three kinds of requests of a team run by."""

RunOnce = Callable[[str, str], Awaitable[str]]
"""``(name of the run, "agent" or "team")`` to the answer, once everything of the run is durable."""
System = Callable[[str, Path, int], AbstractAsyncContextManager[RunOnce]]
"""``(url of the model server, folder for the store, runs at once)`` to a system that is ready to run."""


def database() -> str:
    """URL of the pass's own PostgreSQL database, empty at first; nothing where SQLite is measured."""
    return os.environ.get("STEPS_DATABASE", "")


class Commits:
    """Counts the commits of every SQLite connection that is opened through ``sqlite3.connect``, by file.

    In WAL mode with ``synchronous=FULL`` each commit that wrote something is one fsync of the log; checkpoints come on
    top, one in about a thousand pages. With a rollback journal (``DELETE``) it is several: of the journal, the file and
    the folder. Counting costs time, so it is done in a pass that is not timed.
    """

    def __init__(self) -> None:
        self.by_file: Counter[str] = Counter()
        self.synchronous: dict[str, str] = {}
        self.journal_mode: dict[str, str] = {}

    def install(self) -> None:
        """Replaces ``sqlite3.connect`` in this process, under both of its names."""
        connect = sqlite3.connect

        def counted(database: Any, *args: Any, **kwargs: Any) -> sqlite3.Connection:
            connection: sqlite3.Connection = connect(database, *args, **kwargs)
            self._watch(connection, Path(str(database)).name)
            return connection

        sqlite3.connect = sqlite3.dbapi2.connect = counted  # type: ignore[assignment]

    def _watch(self, connection: sqlite3.Connection, name: str) -> None:
        self.synchronous[name] = str(connection.execute("PRAGMA synchronous").fetchone()[0])
        changes_before = connection.total_changes

        def traced(statement: str) -> None:
            nonlocal changes_before
            word = statement.lstrip()[:24].upper()
            if word.startswith("PRAGMA SYNCHRONOUS"):
                value = statement.partition("=")[2].strip(" ;").upper()
                self.synchronous[name] = {"OFF": "0", "NORMAL": "1", "FULL": "2", "EXTRA": "3"}.get(value, value)
            elif word.startswith("BEGIN"):
                changes_before = connection.total_changes
            elif word.startswith(("COMMIT", "END")):
                self.by_file[name] += connection.total_changes != changes_before
            elif word.startswith(("INSERT", "UPDATE", "DELETE", "REPLACE")) and not connection.in_transaction:
                self.by_file[name] += 1

        connection.set_trace_callback(traced)

    def read_modes(self, folder: Path) -> None:
        """Notes in which journal mode the files of ``folder`` are."""
        for name in self.by_file:
            connection = sqlite3.Connection(folder / name)
            self.journal_mode[name] = str(connection.execute("PRAGMA journal_mode").fetchone()[0]).upper()
            connection.close()


async def run_all(run_once: RunOnce, kind: str, runs: int, *, at_once: int, prefix: str) -> None:
    """Does ``runs`` runs, ``at_once`` of them at any time, and checks every answer."""
    left = iter(range(runs))

    async def lane() -> None:
        for number in left:
            answer = await run_once(f"{prefix}-{number}", kind)
            if ("12 pieces" if kind == "agent" else "96 pieces") not in answer:
                raise RuntimeError(f"run {number} answered {answer!r}")

    await asyncio.gather(*(lane() for _ in range(at_once)))


async def measure(system: System, item: dict[str, Any]) -> dict[str, Any]:
    """One pass: a fresh store, a warm-up, then the runs."""
    at_once, runs, kind = item["at_once"], item["runs"], item["kind"]
    if item["server"]:
        make_database(item["server"])
    warm = max(at_once, 10)
    before = count_fsyncs(item["server"])
    with tempfile.TemporaryDirectory(prefix="steps-", dir=item["folder"]) as folder:
        async with system(item["url"], Path(folder), at_once) as run_once:
            await run_all(run_once, kind, warm, at_once=at_once, prefix="warm")
            if item["is_counting"]:
                COMMITS.by_file.clear()
            wall, cpu = time.perf_counter(), time.process_time()
            await run_all(run_once, kind, runs, at_once=at_once, prefix="run")
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            commits = dict(COMMITS.by_file)
            COMMITS.read_modes(Path(folder))
    if item["server"]:
        # Of all runs of the pass, set-up included: a server process tells what it did when its connection ends.
        commits = {"WAL": (count_fsyncs(item["server"]) - before) * runs / (runs + warm)}
    return {
        "name": item["name"],
        "runs": runs,
        "cpu_ms": 1_000 * cpu / runs,
        "wall_s": wall,
        "runs_s": runs / wall,
        "syncs": {file: count / runs for file, count in commits.items()} if item["is_counting"] else None,
        "synchronous": COMMITS.synchronous if item["is_counting"] else None,
        "journal_mode": COMMITS.journal_mode if item["is_counting"] else None,
    }


def make_database(server: str) -> None:
    """Gives the pass a database of its own."""
    import psycopg

    name = f"pass_{time.time_ns()}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    os.environ["STEPS_DATABASE"] = server.rpartition("/")[0] + f"/{name}"


def count_fsyncs(server: str) -> int:
    """How often the PostgreSQL server has fsynced its log so far; 0 without one."""
    if not server:
        return 0
    import psycopg

    with psycopg.connect(server, autocommit=True) as connection:
        row = connection.execute("SELECT coalesce(sum(fsyncs), 0) FROM pg_stat_io WHERE object = 'wal'").fetchone()
        return int(row[0]) if row else 0


SYSTEMS = {
    "bare": ("_steps_bare", "bare"),
    "group": ("_steps_bare", "group"),
    "langgraph": ("_steps_langgraph", "langgraph"),
    "dbos": ("_steps_dbos", "dbos"),
    "dbos-wal": ("_steps_dbos", "dbos_wal"),
    "ours": ("_steps_ours", "ours"),
    "ours-sealed": ("_steps_ours", "ours_sealed"),
    "ours-sqlcipher": ("_steps_ours", "ours_sqlcipher"),
    "sdk": ("_steps_sdk", "sdk"),
    "ours-sdk": ("_steps_ours", "ours_sdk"),
    "bare-postgres": ("_steps_postgres", "bare_postgres"),
    "group-postgres": ("_steps_postgres", "group_postgres"),
    "langgraph-postgres": ("_steps_langgraph", "langgraph_postgres"),
    "dbos-postgres": ("_steps_dbos", "dbos_postgres"),
    "ours-postgres": ("_steps_ours", "ours"),
}
"""Module and name of each system: a process imports nothing of the others."""


def find(name: str) -> System:
    """The system by name."""
    module, attribute = SYSTEMS[name]
    system: System = getattr(importlib.import_module(module), attribute)
    return system


async def main() -> None:
    plan = json.load(sys.stdin)
    system = find(sys.argv[1])
    json.dump([await measure(system, item) for item in plan], sys.stdout)
    sys.stdout.write("\n")


COMMITS = Commits()

if __name__ == "__main__":
    os.environ.setdefault("LANGSMITH_TRACING", "false")
    if os.environ.get("STEPS_COUNT"):
        COMMITS.install()
    asyncio.run(main())
