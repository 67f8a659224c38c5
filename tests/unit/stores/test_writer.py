"""The writer: first in, first out; all or nothing; nobody waits longer than asked."""

import asyncio
import sqlite3
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collegium.adapters.sqlite.connection import connect, insert_rows
from collegium.adapters.sqlite.writer import Item, Writer
from collegium.domain.errors import Conflict, StoreError, StoreUnavailable


class Note(Item):
    """Writes its number; refuses itself or breaks the transaction when told to."""

    def __init__(self, n: int, *, refuses: bool = False, breaks: bool = False):
        super().__init__()
        self.n = n
        self.refuses = refuses
        self.breaks = breaks
        self.failures: list[Exception] = []

    def apply(self, connection):
        if self.refuses:
            raise Conflict(f"no {self.n}")
        connection.execute("INSERT INTO notes (n) VALUES (?)", (self.n,))
        if self.breaks:
            raise ZeroDivisionError("a bug")

    def failed(self, error):
        self.failures.append(error)


class Held(Item):
    """Keeps the writer busy until it is let go."""

    def __init__(self):
        super().__init__()
        self.is_reached = threading.Event()
        self.may_go = threading.Event()

    def apply(self, connection):
        self.is_reached.set()
        assert self.may_go.wait(10)


def open_writer(path, **options) -> Writer:
    connection = connect(path, synchronous="OFF", busy_timeout_s=1)
    connection.execute("CREATE TABLE IF NOT EXISTS notes (pos INTEGER PRIMARY KEY, n INTEGER NOT NULL)")
    connection.close()
    return Writer(path, synchronous="OFF", **options)


def notes(path) -> list[int]:
    connection = sqlite3.connect(path)
    try:
        return [n for (n,) in connection.execute("SELECT n FROM notes ORDER BY pos")]
    finally:
        connection.close()


ACTIONS = st.lists(st.sampled_from(["good", "good", "refused", "barrier", "yield"]), max_size=60)


@settings(max_examples=60)
@given(actions=ACTIONS)
def test_any_interleaving_keeps_the_order(tmp_path_factory, actions):
    path = tmp_path_factory.mktemp("writer") / "notes.db"

    async def main():
        writer = open_writer(path, linger_s=0.001)
        items: list[Note] = []
        for n, action in enumerate(actions):
            if action == "yield":
                await asyncio.sleep(0)
            elif action == "barrier" and items:
                await asyncio.gather(writer.settled(items[-1]), return_exceptions=True)
                assert all(item.is_done for item in items), "a barrier covers all that came before"
            elif action in {"good", "refused"}:
                items.append(Note(n, refuses=action == "refused"))
                writer.put(items[-1])
        writer.close()
        return items

    items = asyncio.run(main())
    assert notes(path) == [item.n for item in items if not item.refuses]
    for item in items:
        assert item.is_done
        assert (item.error is not None) == item.refuses == bool(item.failures)


async def test_one_transaction_for_all_that_waited(tmp_path):
    writer = open_writer(tmp_path / "notes.db", linger_s=60)
    items = [Note(n) for n in range(50)]
    for item in items:
        writer.put(item)
    await asyncio.gather(*(writer.settled(item) for item in items))
    assert (writer.stats.commits, writer.stats.items, writer.stats.failures) == (1, 50, 0)
    writer.close()


async def test_what_nobody_waits_for_goes_after_lingering(tmp_path):
    writer = open_writer(tmp_path / "notes.db", linger_s=0.05)
    first = Note(1)
    begin = time.monotonic()
    writer.put(first)
    while not first.is_done:
        assert time.monotonic() < begin + 10
        await asyncio.sleep(0.001)
    assert time.monotonic() - begin >= 0.05
    writer.close()


async def test_a_waiter_does_not_linger(tmp_path):
    writer = open_writer(tmp_path / "notes.db", linger_s=60)
    writer.put(Note(1))
    last = Note(2)
    writer.put(last)
    async with asyncio.timeout(10):
        await writer.settled(last)
    assert notes(tmp_path / "notes.db") == [1, 2]
    writer.close()


async def test_a_broken_transaction_fails_all_its_items_and_no_other(tmp_path):
    writer = open_writer(tmp_path / "notes.db", linger_s=60)
    held, bad, good = Held(), Note(2, breaks=True), Note(1)
    writer.put(held)
    waiting = asyncio.ensure_future(writer.settled(held))
    assert await asyncio.to_thread(held.is_reached.wait, 10)
    for item in (good, bad):
        writer.put(item)
    held.may_go.set()
    await waiting
    for item in (good, bad):
        with pytest.raises(StoreError, match="a bug"):
            await writer.settled(item)
        assert len(item.failures) == 1
    after = Note(3)
    writer.put(after)
    await writer.settled(after)
    assert notes(tmp_path / "notes.db") == [3]
    assert (writer.stats.commits, writer.stats.failures) == (2, 1)
    writer.close()


async def test_closing_writes_what_waits(tmp_path):
    writer = open_writer(tmp_path / "notes.db", linger_s=60)
    for n in range(5_000):
        writer.put(Note(n))
    writer.close()
    writer.close()
    assert notes(tmp_path / "notes.db") == list(range(5_000))
    late = Note(0)
    writer.put(late)
    with pytest.raises(StoreUnavailable, match="closed"):
        await writer.settled(late)


async def test_giving_up_tells_those_who_wait(tmp_path):
    writer = open_writer(tmp_path / "notes.db", linger_s=60)
    held, item = Held(), Note(1)
    writer.put(held)
    waiters = [asyncio.ensure_future(writer.settled(held))]
    assert await asyncio.to_thread(held.is_reached.wait, 10)
    writer.put(item)
    waiters.append(asyncio.ensure_future(writer.settled(item)))
    await asyncio.sleep(0)
    closing = asyncio.ensure_future(asyncio.to_thread(writer.close, drain=False))
    with pytest.raises(StoreUnavailable):
        await waiters[1]
    held.may_go.set()
    await asyncio.gather(closing, waiters[0])
    assert notes(tmp_path / "notes.db") == []


def test_a_loop_that_is_gone_harms_nobody(tmp_path):
    writer = open_writer(tmp_path / "notes.db", linger_s=60)
    held = Held()

    async def leave():
        writer.put(held)
        task = asyncio.ensure_future(writer.settled(held))
        await asyncio.to_thread(held.is_reached.wait, 10)
        task.cancel()

    asyncio.run(leave())
    held.may_go.set()
    after = Note(1)
    writer.put(after)
    asyncio.run(writer.settled(after))
    writer.close()


@pytest.mark.parametrize("count", [0, 1, 2, 31, 32, 33, 100])
def test_rows_are_inserted_in_order(tmp_path, count):
    connection = connect(tmp_path / "rows.db", synchronous="OFF", busy_timeout_s=1)
    connection.execute("CREATE TABLE notes (pos INTEGER PRIMARY KEY, n, text)")
    insert_rows(connection, "INSERT INTO notes (n, text)", [(n, str(n)) for n in range(count)])
    found = connection.execute("SELECT n, text FROM notes ORDER BY pos").fetchall()
    assert found == [(n, str(n)) for n in range(count)]
    connection.close()
