"""Tamperings with a store: runs and the administrative log are edited, cut, reordered, and held against the signatures.

Whoever tampers has the whole database and knows its tables; what they have not is the chain key.
"""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from collegium.adapters.postgres.store import open_store as open_postgres
from collegium.adapters.sqlite.store import open_store as open_sqlite
from collegium.domain.deed import LogNoted, log_tenant
from collegium.ports import Archive, Journal
from collegium.runtime.admin_log import AdminLog
from collegium.runtime.audit import Damage, verify_all
from collegium.testing.clock import FakeClock
from collegium.testing.conformance.archive import a_finished_run
from collegium.testing.conformance.drafts import noted

KEY = b"k" * 32
TENANT = "acme"
OWNERS = (TENANT, log_tenant(TENANT))
RUNS = tuple(f"run_{n}" for n in range(5))
LOGS = ("log_acme_202611", "log_acme_202612")
JOURNALS = (*RUNS, *LOGS)
LENGTH = 12
START = datetime(2026, 11, 22, 12, tzinfo=UTC)
_TABLES = ("events", "heads", "checkpoints")
_COLUMNS = "id, tenant, type, v, at, task, attempt, body, blob, salt, digest, mac"
Place = tuple[str, int]
"""A journal and the first seq that is not as it was written; a tenant and the number of a checkpoint."""


class Base(Protocol):
    """A database, as whoever tampers has it; ``?`` stands for values."""

    def do(self, sql: str, values: Sequence[object] = ()) -> None:
        """Carries out a statement."""
        ...

    def ask(self, sql: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """The rows of a query."""
        ...


@dataclass
class Trials:
    """What came of many tamperings."""

    made: int = 0
    found: int = 0
    named: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    missed: list[str] = field(default_factory=list)

    def take(self, what: str, expected: Place, found: Sequence[Damage]) -> None:
        """Notes one trial."""
        self.made += 1
        self.kinds[what] += 1
        self.found += bool(found)
        places = [(bad.run, bad.seq) if bad.run is not None else ("", bad.checkpoint) for bad in found]
        wanted = expected if expected[0] in JOURNALS else ("", expected[1])
        if wanted in places[:1]:
            self.named += 1
        else:
            self.missed.append(f"{what} at {expected}: {places[:3]}")


def edit(base: Base, rng: random.Random) -> Place:
    run, seq = rng.choice(JOURNALS), rng.randint(1, LENGTH)
    column, value = rng.choice(
        [("id", "evt_x"), ("v", 7), ("at", 5), ("task", "t"), ("attempt", 3), ("body", b'{"x":1}'),
         ("salt", b"s" * 16), ("digest", b"d" * 32), ("mac", b"m" * 32), ("type", "run.said"), ("tenant", "eve")]
    )  # fmt: skip
    base.do(f"UPDATE events SET {column} = ? WHERE run = ? AND seq = ?", (value, run, seq))
    return run, seq


def edit_one_letter(base: Base, rng: random.Random) -> Place:
    run, seq = rng.choice(JOURNALS), rng.randint(1, LENGTH)
    body = bytearray(bytes(base.ask("SELECT body FROM events WHERE run = ? AND seq = ?", (run, seq))[0][0]))
    body[rng.randrange(len(body))] ^= 1 << rng.randrange(8)
    base.do("UPDATE events SET body = ? WHERE run = ? AND seq = ?", (bytes(body), run, seq))
    return run, seq


def remove(base: Base, rng: random.Random) -> Place:
    run, seq = rng.choice(JOURNALS), rng.randint(1, LENGTH)
    base.do("DELETE FROM events WHERE run = ? AND seq = ?", (run, seq))
    return run, seq


def remove_and_close_the_gap(base: Base, rng: random.Random) -> Place:
    run, seq = rng.choice(JOURNALS), rng.randint(1, LENGTH - 1)
    base.do("DELETE FROM events WHERE run = ? AND seq = ?", (run, seq))
    for one in range(seq + 1, LENGTH + 1):
        base.do("UPDATE events SET seq = ? WHERE run = ? AND seq = ?", (one - 1, run, one))
    base.do("UPDATE heads SET seq = ? WHERE run = ?", (LENGTH - 1, run))
    return run, seq


def reorder(base: Base, rng: random.Random) -> Place:
    run, (one, two) = rng.choice(JOURNALS), sorted(rng.sample(range(1, LENGTH + 1), 2))
    for old, new in ((one, -1), (two, one), (-1, two)):
        base.do("UPDATE events SET seq = ? WHERE run = ? AND seq = ?", (new, run, old))
    return run, one


def insert(base: Base, rng: random.Random) -> Place:
    run, seq = rng.choice(JOURNALS), rng.randint(1, LENGTH)
    for one in range(LENGTH, seq - 1, -1):
        base.do("UPDATE events SET seq = ? WHERE run = ? AND seq = ?", (one + 1, run, one))
    _copy(base, (run, seq + 1), (run, seq))
    base.do("UPDATE events SET id = 'evt_new' WHERE run = ? AND seq = ?", (run, seq))
    base.do("UPDATE heads SET seq = ? WHERE run = ?", (LENGTH + 1, run))
    return run, seq


def append(base: Base, rng: random.Random) -> Place:
    run = rng.choice(JOURNALS)
    _copy(base, (run, rng.randint(1, LENGTH)), (run, LENGTH + 1))
    base.do("UPDATE heads SET seq = ? WHERE run = ?", (LENGTH + 1, run))
    return run, LENGTH + 1


def replace_by_anothers(base: Base, rng: random.Random) -> Place:
    (run, other), seq = rng.sample(RUNS if rng.random() < 0.5 else LOGS, 2), rng.randint(1, LENGTH)
    base.do("DELETE FROM events WHERE run = ? AND seq = ?", (run, seq))
    _copy(base, (other, seq), (run, seq))
    return run, seq


def cut_tail(base: Base, rng: random.Random) -> Place:
    run, seq = rng.choice(JOURNALS), rng.randint(1, LENGTH - 1)
    base.do("DELETE FROM events WHERE run = ? AND seq > ?", (run, seq))
    if rng.random() < 0.8:  # so that the chain of the journal itself holds
        (mac,) = base.ask("SELECT mac FROM events WHERE run = ? AND seq = ?", (run, seq))[0]
        base.do("UPDATE heads SET seq = ?, mac = ? WHERE run = ?", (seq, bytes(mac), run))
    return run, seq + 1


def remove_journal(base: Base, rng: random.Random) -> Place:
    run = rng.choice(JOURNALS)
    base.do("DELETE FROM events WHERE run = ?", (run,))
    base.do("DELETE FROM heads WHERE run = ?", (run,))
    return run, 1


def remove_head(base: Base, rng: random.Random) -> Place:
    run = rng.choice(JOURNALS)
    base.do("DELETE FROM heads WHERE run = ?", (run,))
    return run, 1


def give_away(base: Base, rng: random.Random) -> Place:
    run = rng.choice(JOURNALS)
    base.do("UPDATE heads SET tenant = 'eve' WHERE run = ?", (run,))
    return run, 1


def edit_checkpoint(base: Base, rng: random.Random) -> Place:
    owner = rng.choice(OWNERS)
    number, (name, value) = rng.randint(1, _last(base, owner)), rng.choice(
        [("at", "2020-01-01T00:00:00Z"), ("cursor", 10**6), ("previous", "ab"), ("whole", 0), ("surplus", -9),
         ("digest", "cd"), ("tenant", "eve"), ("number", 99), ("signature", "ef")]
    )  # fmt: skip
    (stored,) = base.ask("SELECT value FROM checkpoints WHERE tenant = ? AND number = ?", (owner, number))[0]
    text = stored if isinstance(stored, str) else bytes(stored).decode()
    changed = json.dumps(json.loads(text) | {name: value})
    given = changed if isinstance(stored, str) else changed.encode()
    base.do("UPDATE checkpoints SET value = ? WHERE tenant = ? AND number = ?", (given, owner, number))
    return owner, number


def remove_checkpoint(base: Base, rng: random.Random) -> Place:
    owner = rng.choice(OWNERS)
    number = rng.randint(1, _last(base, owner) - 1)
    base.do("DELETE FROM checkpoints WHERE tenant = ? AND number = ?", (owner, number))
    return owner, number


TAMPERINGS: tuple[Callable[[Base, random.Random], Place], ...] = (
    edit, edit_one_letter, remove, remove_and_close_the_gap, reorder, insert, append, replace_by_anothers, cut_tail,
    remove_journal, remove_head, give_away, edit_checkpoint, remove_checkpoint,
)  # fmt: skip


async def fill(journal: Journal, archive: Archive) -> None:
    """Five runs and two months of a log, written in turn under several checkpoints."""
    clock = FakeClock(START)
    log = AdminLog(journal, now=clock.now)
    for run in RUNS:
        await a_finished_run(journal, run)
    lengths = dict.fromkeys(RUNS, 0)
    for n in range(LENGTH):
        for run in RUNS:
            head = await journal.head(run)
            lengths[run] = 0 if head is None else head.seq
            if lengths[run] < LENGTH:
                await journal.append(run, [noted(n)]).durable()
        if n < LENGTH - 1:
            await log.note(TENANT, LogNoted(actor=f"key:{n}", action="keys.created", object=f"key:{n}"))
        await archive.checkpoint(at=clock.now())
    await clock.advance(30 * 86_400.0)
    for n in range(LENGTH - 1):
        await log.note(TENANT, LogNoted(actor="local", action="stops.put", object=f"tool:{n}"))
        await archive.checkpoint(at=clock.now())


async def verified(journal: Journal, archive: Archive) -> list[Damage]:
    """What ``audit verify`` finds in runs and log."""
    return [bad for owner in OWNERS for bad in (await verify_all(journal, archive, owner)).damaged]


class SqliteBase:
    """The tables of an SQLite store."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path)

    def do(self, sql: str, values: Sequence[object] = ()) -> None:
        """Carries out a statement."""
        self._connection.execute(sql, tuple(values))

    def ask(self, sql: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """The rows of a query."""
        return self._connection.execute(sql, tuple(values)).fetchall()

    def close(self) -> None:
        """Keeps what was done."""
        self._connection.commit()
        self._connection.close()


async def on_sqlite(folder: Path, count: int) -> Trials:
    """Tampers ``count`` times with an SQLite store, each time with a copy as it was written."""
    whole, trials = folder / "whole.db", Trials()
    store = open_sqlite(whole, clock=FakeClock(), chain_key=KEY)
    await fill(store.journal, store.archive)
    assert await verified(store.journal, store.archive) == []
    await store.aclose()
    for seed in range(count):
        tamper, path = TAMPERINGS[seed % len(TAMPERINGS)], folder / "tampered.db"
        shutil.copy(whole, path)
        base = SqliteBase(path)
        place = tamper(base, random.Random(seed))
        base.close()
        store = open_sqlite(path, clock=FakeClock(), chain_key=KEY)
        trials.take(tamper.__name__, place, await verified(store.journal, store.archive))
        await store.aclose()
        _clear(folder)
    return trials


class PostgresBase:
    """The tables of a PostgreSQL store."""

    def __init__(self, url: str) -> None:
        import psycopg

        self._connection = psycopg.connect(url, autocommit=True)

    def do(self, sql: str, values: Sequence[object] = ()) -> None:
        """Carries out a statement."""
        self._connection.execute(sql.replace("?", "%s").encode(), tuple(values) or None)

    def ask(self, sql: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """The rows of a query."""
        return self._connection.execute(sql.replace("?", "%s").encode(), tuple(values) or None).fetchall()

    def keep(self) -> None:
        """Remembers the tables as they are."""
        for table in _TABLES:
            self.do(f"CREATE TABLE kept_{table} AS SELECT * FROM {table}")

    def restore(self) -> None:
        """Makes them what they were."""
        for table in _TABLES:
            self.do(f"DELETE FROM {table}")
            overriding = "OVERRIDING SYSTEM VALUE " if table == "checkpoints" else ""
            self.do(f"INSERT INTO {table} {overriding}SELECT * FROM kept_{table}")

    def close(self) -> None:
        """Ends the connection."""
        self._connection.close()


async def on_postgres(url: str, count: int) -> Trials:
    """The same with a PostgreSQL store in an empty database."""
    trials = Trials()
    store = await open_postgres(url, clock=FakeClock(), chain_key=KEY)
    await fill(store.journal, store.archive)
    assert await verified(store.journal, store.archive) == []
    base = await asyncio.to_thread(PostgresBase, url)
    try:
        base.keep()
        for seed in range(count):
            tamper = TAMPERINGS[seed % len(TAMPERINGS)]
            place = tamper(base, random.Random(seed))
            trials.take(tamper.__name__, place, await verified(store.journal, store.archive))
            base.restore()
    finally:
        base.close()
        await store.aclose()
    return trials


def _clear(folder: Path) -> None:
    for left in folder.glob("tampered.db*"):
        left.unlink()


def _copy(base: Base, source: Place, target: Place) -> None:
    pos = "pos, " if isinstance(base, PostgresBase) else ""
    base.do(
        f"INSERT INTO events ({pos}run, seq, {_COLUMNS}) SELECT {pos}CAST(? AS text), CAST(? AS bigint), {_COLUMNS} "
        "FROM events WHERE run = ? AND seq = ?",
        (*target, *source),
    )


def _last(base: Base, owner: str) -> int:
    return int(base.ask("SELECT max(number) FROM checkpoints WHERE tenant = ?", (owner,))[0][0])
