"""Checkpoints: whatever is changed, removed or put elsewhere in a store below one is found, and where it begins."""

from __future__ import annotations

import asyncio
import logging
import random
import shutil
import sqlite3
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from collegium.adapters.clock import SystemClock
from collegium.adapters.memory.bus import MemoryBus
from collegium.adapters.presence import MemoryPresence
from collegium.adapters.sqlite.store import SqliteStore, open_store
from collegium.app import Stores
from collegium.domain import checkpoint
from collegium.domain.chat import ModelReply, ModelRequest
from collegium.runtime.audit import CHECKPOINT_S, Checkpoints, Verified, verify_all
from collegium.testing.clock import FakeClock
from collegium.testing.conformance.archive import a_finished_run, tombstone_of
from collegium.testing.conformance.drafts import NOW, begin, eventually, noted
from collegium.testing.harness import team
from collegium.testing.scripted import ScriptedModel, Step

KEY = b"k" * 32
RUNS = tuple(f"run_{n}" for n in range(8))
PRUNED = "run_6"
BODILESS = "run_7"
LIVE = RUNS[:6]
Place = tuple[str, int]
Tampering = Callable[[sqlite3.Connection, random.Random], Place]


def opened(path: Path) -> SqliteStore:
    return open_store(path, clock=FakeClock(), chain_key=KEY)


async def verified(path: Path) -> Verified:
    store = opened(path)
    try:
        return await verify_all(store.journal, store.archive, "acme")
    finally:
        await store.aclose()


@pytest.fixture
async def signed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store with runs that were written to in turn, two of them pruned, under checkpoints; old ones list nothing."""
    monkeypatch.setattr(checkpoint, "SPARE_ENTRIES", 12)
    path = tmp_path / "signed.db"
    store = opened(path)
    for run in RUNS:
        await a_finished_run(store.journal, run, note="x" * 5_000)
    await store.archive.checkpoint(at=NOW)
    await store.archive.prune(await tombstone_of(store.journal, PRUNED, "run"))
    await store.archive.prune(await tombstone_of(store.journal, BODILESS, "bodies"))
    for n in range(30):
        await store.journal.append(LIVE[n % 6], [noted(n)]).durable()
        await store.archive.checkpoint(at=NOW)
    stored = await store.archive.checkpoints("acme")
    assert 1 < stored[-1].whole < len(stored) - 3
    await store.aclose()
    return path


def edit_event(c: sqlite3.Connection, rng: random.Random) -> Place:
    run, seq = rng.choice(LIVE), rng.randint(1, 10)
    column, value = rng.choice(
        [("id", "evt_x"), ("type", "run.said"), ("v", 7), ("at", 5), ("task", "t"), ("attempt", 3), ("tenant", "eve"),
         ("body", b'{"x":1}'), ("salt", b"s" * 16), ("digest", b"d" * 32), ("mac", b"m" * 32)]
    )  # fmt: skip
    c.execute(f"UPDATE events SET {column} = ? WHERE run = ? AND seq = ?", (value, run, seq))
    return run, seq


def edit_blob(c: sqlite3.Connection, rng: random.Random) -> Place:
    c.execute("UPDATE blobs SET data = ?", (bytes([rng.randrange(256)]) * 5_000,))
    return LIVE[-1], 5  # all of them name it; the newest comes first


def swap_events(c: sqlite3.Connection, rng: random.Random) -> Place:
    run, (one, two) = rng.choice(LIVE), sorted(rng.sample(range(1, 11), 2))
    for old, new in ((one, -1), (two, one), (-1, two)):
        c.execute("UPDATE events SET seq = ? WHERE run = ? AND seq = ?", (new, run, old))
    return run, one


def remove_event(c: sqlite3.Connection, rng: random.Random) -> Place:
    run, seq = rng.choice(LIVE), rng.randint(1, 10)
    c.execute("DELETE FROM events WHERE run = ? AND seq = ?", (run, seq))
    return run, seq


def add_event(c: sqlite3.Connection, rng: random.Random) -> Place:
    run = rng.choice(LIVE)
    columns = "id, tenant, type, v, at, task, attempt, body, blob, salt, digest, mac"
    c.execute(f"INSERT INTO events (run, seq, {columns}) SELECT run, 11, {columns} FROM events WHERE run = ? AND seq = 10", (run,))  # fmt: skip # noqa: E501
    c.execute("UPDATE heads SET seq = 11 WHERE run = ?", (run,))
    return run, 11


def cut_tail(c: sqlite3.Connection, rng: random.Random) -> Place:
    run, seq = rng.choice(LIVE), rng.randint(1, 9)
    c.execute("DELETE FROM events WHERE run = ? AND seq > ?", (run, seq))
    if rng.random() < 0.7:  # so that the chain of the run itself holds
        (mac,) = c.execute("SELECT mac FROM events WHERE run = ? AND seq = ?", (run, seq)).fetchone()
        c.execute("UPDATE heads SET seq = ?, mac = ? WHERE run = ?", (seq, mac, run))
    return run, seq + 1


def remove_run(c: sqlite3.Connection, rng: random.Random) -> Place:
    run = rng.choice(RUNS)
    for table in ("heads", "events", "fences", "tombstones"):
        c.execute(f"DELETE FROM {table} WHERE run = ?", (run,))
    return run, 1


def remove_head(c: sqlite3.Connection, rng: random.Random) -> Place:
    run = rng.choice(RUNS)
    c.execute("DELETE FROM heads WHERE run = ?", (run,))
    return run, 1


def give_run_away(c: sqlite3.Connection, rng: random.Random) -> Place:
    run = rng.choice(RUNS)
    c.execute("UPDATE heads SET tenant = 'eve' WHERE run = ?", (run,))
    return run, 1


def edit_tombstone(c: sqlite3.Connection, rng: random.Random) -> Place:
    run, field = rng.choice((PRUNED, BODILESS)), rng.choice(("seq", "kept"))
    c.execute("UPDATE tombstones SET value = json_set(value, ?, 4) WHERE run = ?", (f"$.{field}", run))
    return run, 0


def remove_tombstone(c: sqlite3.Connection, rng: random.Random) -> Place:
    run = rng.choice((PRUNED, BODILESS))
    c.execute("DELETE FROM tombstones WHERE run = ?", (run,))
    return run, 1


def edit_checkpoint(c: sqlite3.Connection, rng: random.Random) -> Place:
    number, (field, value) = rng.randint(1, last(c)), rng.choice(
        [("at", "2020-01-01T00:00:00Z"), ("cursor", 10**6), ("previous", "ab"), ("whole", 0), ("surplus", -9),
         ("digest", "cd"), ("tenant", "eve"), ("number", 99), ("v", 2), ("signature", "ef"), ("more", 1)]
    )  # fmt: skip
    c.execute("UPDATE checkpoints SET value = json_set(value, ?, ?) WHERE number = ?", (f"$.{field}", value, number))
    return "", number


def edit_list(c: sqlite3.Connection, rng: random.Random) -> Place:
    number = rng.randint(whole(c), last(c))
    value = rng.choice(["[]", '[["run_0",1,"ab"]]', "nonsense", None])
    c.execute("UPDATE checkpoints SET entries = ? WHERE number = ?", (value, number))
    return "", number


def remove_checkpoints(c: sqlite3.Connection, rng: random.Random) -> Place:
    first = rng.randint(1, last(c) - 1)
    c.execute("DELETE FROM checkpoints WHERE number BETWEEN ? AND ?", (first, rng.randint(first, last(c) - 1)))
    return "", first


def swap_checkpoints(c: sqlite3.Connection, rng: random.Random) -> Place:
    one, two = sorted(rng.sample(range(1, last(c) + 1), 2))
    for old, new in ((one, -1), (two, one), (-1, two)):
        c.execute("UPDATE checkpoints SET number = ? WHERE number = ?", (new, old))
    return "", one


def cut_checkpoints_and_renumber(c: sqlite3.Connection, rng: random.Random) -> Place:
    number = rng.randint(1, last(c) - 1)
    c.execute("DELETE FROM checkpoints WHERE number = ?", (number,))
    c.execute("UPDATE checkpoints SET number = -number WHERE number > ?", (number,))
    c.execute("UPDATE checkpoints SET number = -number - 1 WHERE number < 0")
    return "", number


def last(c: sqlite3.Connection) -> int:
    return int(c.execute("SELECT max(number) FROM checkpoints").fetchone()[0])


def whole(c: sqlite3.Connection) -> int:
    return int(c.execute("SELECT json_extract(value, '$.whole') FROM checkpoints ORDER BY id DESC").fetchone()[0])


TAMPERINGS: tuple[Tampering, ...] = (
    edit_event, edit_blob, swap_events, remove_event, add_event, cut_tail, remove_run, remove_head, give_run_away,
    edit_tombstone, remove_tombstone, edit_checkpoint, edit_list, remove_checkpoints, swap_checkpoints,
    cut_checkpoints_and_renumber,
)  # fmt: skip


async def test_every_tampering_is_found_and_its_first_place_named(signed: Path, tmp_path: Path) -> None:
    whole_store = await verified(signed)
    assert (whole_store.damaged, whole_store.runs, whole_store.open_runs) == ((), 8, 0)
    missed = []
    for seed in range(208):
        rng = random.Random(seed)
        tamper = TAMPERINGS[seed % len(TAMPERINGS)]
        path = tmp_path / "tampered.db"
        shutil.copy(signed, path)
        connection = sqlite3.connect(path)
        run, number = tamper(connection, rng)
        connection.commit()
        connection.close()
        found = (await verified(path)).damaged
        first = [(d.run or "", d.checkpoint if d.run is None else d.seq) for d in found[:1]]
        if first != [(run, number)]:
            missed.append((seed, tamper.__name__, (run, number), found))
        path.unlink()
    assert missed == []


async def test_a_cut_run_that_has_gone_on_since_is_found(signed: Path) -> None:
    connection = sqlite3.connect(signed)
    cut_tail(connection, random.Random(3))
    connection.commit()
    (run, seq) = connection.execute("SELECT run, seq FROM heads WHERE seq < 10 AND run < 'run_6'").fetchone()
    connection.close()
    store = opened(signed)
    for _ in range(12 - seq):  # the store itself goes on from there, and signs it: chain and newest entry hold
        await store.journal.append(run, [noted("after")]).durable()
    await store.archive.checkpoint(at=NOW)
    found = await verify_all(store.journal, store.archive, "acme")
    assert [d.run for d in found.damaged] == [run]
    assert "was another one" in found.damaged[0].why
    for n in range(30):  # nor is what shows it ever dropped
        await store.journal.append(run, [noted(n)]).durable()
        await store.archive.checkpoint(at=NOW)
    assert [d.run for d in (await verify_all(store.journal, store.archive, "acme")).damaged] == [run]
    await store.aclose()


async def test_the_newest_checkpoints_gone_with_all_below_them_show_only_against_an_exported_one(signed: Path) -> None:
    store = opened(signed)
    kept = (await store.archive.checkpoints("acme"))[-1]
    await store.aclose()
    connection = sqlite3.connect(signed)
    connection.execute("DELETE FROM checkpoints WHERE number > ?", (kept.number - 3,))
    entries = connection.execute("SELECT run, seq - 1 FROM heads WHERE run IN ('run_3', 'run_4', 'run_5')").fetchall()
    for run, seq in entries:
        connection.execute("DELETE FROM events WHERE run = ? AND seq > ?", (run, seq))
        (mac,) = connection.execute("SELECT mac FROM events WHERE run = ? AND seq = ?", (run, seq)).fetchone()
        connection.execute("UPDATE heads SET seq = ?, mac = ? WHERE run = ?", (seq, mac, run))
    connection.commit()
    connection.close()
    store = opened(signed)
    assert (await verify_all(store.journal, store.archive, "acme")).damaged == ()
    found = (await verify_all(store.journal, store.archive, "acme", kept)).damaged
    assert [(d.run, d.checkpoint) for d in found] == [(None, kept.number), ("run_5", kept.number)]
    # What is signed anew in its place is not it either.
    for n in range(5):
        await store.journal.append("run_0", [noted(n)]).durable()
        await store.archive.checkpoint(at=NOW)
    found = (await verify_all(store.journal, store.archive, "acme", kept)).damaged
    assert "the chain was cut and made anew" in found[0].why
    await store.aclose()


async def test_nothing_is_signed_on_top_of_what_was_changed_and_the_work_goes_on(
    signed: Path, caplog: pytest.LogCaptureFixture
) -> None:
    connection = sqlite3.connect(signed)
    connection.execute("UPDATE checkpoints SET value = json_set(value, '$.cursor', 0) WHERE number = ?", (31,))
    connection.commit()
    connection.close()
    store, clock = opened(signed), FakeClock()
    await store.journal.append("run_0", [noted("x")]).durable()
    checkpoints = Checkpoints(store.archive, clock=clock)
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            await checkpoints.write()
    assert len(caplog.records) == 1
    assert "checkpoint 31 of tenant acme is not as it was signed" in caplog.text
    assert len(await store.archive.checkpoints("acme")) == 31
    await store.aclose()


async def test_a_checkpoint_costs_one_commit_every_few_seconds_and_none_where_nothing_changes(tmp_path: Path) -> None:
    store, clock = opened(tmp_path / "store.db"), FakeClock()
    checkpoints, others = (Checkpoints(store.archive, clock=clock) for _ in range(2))
    for n in range(30):
        await begin(store.journal, f"run_{n}", tenant=f"t{n % 3}")
    before = store.writer.stats.commits
    for _ in range(60):  # a minute of an idle process
        await checkpoints.write_due()
        await clock.advance(0.5)
        await others.write_due()
        await clock.advance(0.5)
    assert store.writer.stats.commits - before == 1
    before = store.writer.stats.commits
    for n in range(60):  # a minute of work, in two processes
        await store.journal.append("run_0", [noted(n, tenant="t0")]).durable()
        await checkpoints.write_due()
        await clock.advance(0.5)
        await store.journal.append("run_0", [noted(n, tenant="t0")]).durable()
        await others.write_due()
        await clock.advance(0.5)
    assert store.writer.stats.commits - before - 120 == 60 / CHECKPOINT_S
    assert len(await store.archive.checkpoints("t0")) == 1 + 60 / CHECKPOINT_S
    assert len(await store.archive.checkpoints("t1")) == 1
    await store.aclose()


def stores_of(store: SqliteStore) -> Stores:
    return Stores(
        journal=store.journal,
        bus=MemoryBus(SystemClock()),
        records=store.records,
        blobs=store.blobs,
        presence=MemoryPresence(),
        archive=store.archive,
    )


class Held(ScriptedModel):
    """Answers when it is let go."""

    def __init__(self) -> None:
        super().__init__([Step(reply="Paris.", times=None)])
        self.let_go = asyncio.Event()

    async def complete(self, request: ModelRequest) -> ModelReply:
        await self.let_go.wait()
        return await super().complete(request)


async def test_a_process_that_works_signs_what_it_does(tmp_path: Path) -> None:
    store = open_store(tmp_path / "store.db", chain_key=KEY)
    model = Held()
    async with team(model, stores=stores_of(store)) as app:
        run = await app.submit("What is the capital of France?")

        async def is_signed() -> bool:
            return run.id in (await store.archive.covered("default")).listed

        await eventually(is_signed)
        assert (await run.state()).finished is None
        model.let_go.set()
    await store.aclose()


async def test_a_process_that_ends_signs_what_it_did(tmp_path: Path) -> None:
    store = open_store(tmp_path / "store.db", chain_key=KEY)
    stores = stores_of(store)
    async with team(ScriptedModel([Step(reply="Paris.", times=None)]), stores=stores) as app:
        await asyncio.wait_for((await app.submit("What is the capital of France?")).result(), 20)
    found = await verify_all(store.journal, store.archive, "default")
    assert (found.runs, found.open_runs, found.damaged) == (1, 0, ())
    await store.aclose()


async def test_a_store_without_checkpoints_begins_with_every_run_there_is(signed: Path) -> None:
    connection = sqlite3.connect(signed)
    connection.execute("DELETE FROM checkpoints")
    connection.commit()
    connection.close()
    store = opened(signed)
    assert (await verify_all(store.journal, store.archive, "acme")).open_runs == len(RUNS)
    await store.archive.checkpoint(at=NOW + timedelta(seconds=1))
    (first,) = await store.archive.checkpoints("acme")
    assert {entry.run for entry in first.entries or ()} == set(RUNS)
    found = await verify_all(store.journal, store.archive, "acme")
    assert (found.damaged, found.open_runs) == ((), 0)
    await store.aclose()


async def test_a_tenant_whose_chain_is_gone_begins_with_every_run_it_has(signed: Path) -> None:
    store = opened(signed)
    await begin(store.journal, "run_eve", tenant="eve")
    await store.archive.checkpoint(at=NOW)
    connection = sqlite3.connect(signed)
    connection.execute("DELETE FROM checkpoints WHERE tenant = 'acme'")
    connection.commit()
    connection.close()
    await store.journal.append("run_0", [noted("x")]).durable()
    (first,) = await store.archive.checkpoint(at=NOW)
    assert (first.number, {entry.run for entry in first.entries or ()}) == (1, set(RUNS))
    await store.aclose()
