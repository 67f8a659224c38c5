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


class Where(Item):
    """Notes whose thread writes it."""

    def __init__(self):
        super().__init__()
        self.thread = 0

    def apply(self, connection):
        self.thread = threading.get_ident()
        connection.execute("INSERT INTO notes (n) VALUES (0)")


class Interrupted(Item):
    """Is interrupted while it is written."""

    def apply(self, connection):
        raise KeyboardInterrupt


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


NEVER_SLOW = 3_600.0
"""With this the loop commits whatever it may: from the second commit on, the first one opens the connection."""
ACTIONS = st.lists(st.sampled_from(["good", "good", "refused", "barrier", "yield"]), max_size=60)


@settings(max_examples=100)
@given(actions=ACTIONS, quick_s=st.sampled_from([0, NEVER_SLOW]))
def test_any_interleaving_keeps_the_order(tmp_path_factory, actions, quick_s):
    path = tmp_path_factory.mktemp("writer") / "notes.db"

    async def main():
        writer = open_writer(path, linger_s=0.001, quick_s=quick_s)
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


async def opened(path, **options) -> Writer:
    """A writer that has its connection, and whose thread is at rest."""
    writer = open_writer(path, **options)
    first = Note(1)
    writer.put(first)
    await writer.settled(first)
    async with asyncio.timeout(10):
        # Its thread ends with the first item a little later than it says so.
        while writer._at_work.locked() or not writer._is_idle:  # noqa: ASYNC110 - a thread has no event of asyncio
            await asyncio.sleep(0.001)
    return writer


async def put_and_wait(writer: Writer, item: Item) -> None:
    writer.put(item)
    await writer.settled(item)


async def test_whoever_waits_commits_where_that_is_quick(tmp_path):
    writer = await opened(tmp_path / "notes.db", linger_s=60, quick_s=NEVER_SLOW)
    one, other = Where(), Where()
    await asyncio.gather(put_and_wait(writer, one), put_and_wait(writer, other))
    assert one.thread == other.thread == threading.get_ident()
    assert writer.stats.commits == 2, "those that are ready at the same time share a commit"
    writer.close()


async def test_with_a_slow_disk_the_thread_commits(tmp_path):
    writer = await opened(tmp_path / "notes.db", linger_s=60, quick_s=0)
    item = Where()
    await put_and_wait(writer, item)
    assert item.thread not in (0, threading.get_ident())
    writer.close()


async def test_what_may_take_long_is_left_to_the_thread(tmp_path):
    writer = await opened(tmp_path / "notes.db", linger_s=60, quick_s=NEVER_SLOW)
    large, item = Where(), Where()
    large.is_large = True
    writer.put(large)
    await put_and_wait(writer, item)
    assert large.thread == item.thread != threading.get_ident()
    many = [Where() for _ in range(65)]
    for one in many:
        writer.put(one)
    await writer.settled(many[-1])
    assert threading.get_ident() not in {one.thread for one in many}
    writer.close()


async def test_another_process_that_writes_does_not_stop_the_loop(tmp_path):
    path = tmp_path / "notes.db"
    writer = await opened(path, linger_s=60, quick_s=NEVER_SLOW, busy_timeout_s=30)
    other = connect(path, synchronous="OFF", busy_timeout_s=1)
    other.execute("BEGIN IMMEDIATE")
    item = Where()
    waiting = asyncio.ensure_future(put_and_wait(writer, item))
    for _ in range(20):  # the loop goes on while the lock is held
        await asyncio.sleep(0.001)
    assert not waiting.done()
    other.execute("COMMIT")
    other.close()
    await waiting
    assert item.thread != threading.get_ident()
    assert notes(path) == [1, 0]
    writer.close()


async def test_a_refusal_and_a_fault_on_the_loop_are_told(tmp_path):
    writer = await opened(tmp_path / "notes.db", linger_s=60, quick_s=NEVER_SLOW)
    with pytest.raises(Conflict, match="no 2"):
        await put_and_wait(writer, Note(2, refuses=True))
    with pytest.raises(StoreError, match="a bug"):
        await put_and_wait(writer, Note(3, breaks=True))
    await put_and_wait(writer, Note(4))
    assert notes(tmp_path / "notes.db") == [1, 4]
    writer.close()


def test_an_interrupt_on_the_loop_fails_what_was_being_written(tmp_path):
    path = tmp_path / "notes.db"
    other = Note(2)

    async def interrupted():
        writer = await opened(path, linger_s=60, quick_s=NEVER_SLOW)
        writers.append(writer)
        writer.put(other)
        await put_and_wait(writer, Interrupted())

    writers: list[Writer] = []
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(interrupted())
    assert other.is_done
    assert isinstance(other.error, StoreError)
    after = Note(3)
    asyncio.run(put_and_wait(writers[0], after))
    writers[0].close()
    assert notes(path) == [1, 3]


@pytest.mark.parametrize("count", [0, 1, 2, 31, 32, 33, 100])
def test_rows_are_inserted_in_order(tmp_path, count):
    connection = connect(tmp_path / "rows.db", synchronous="OFF", busy_timeout_s=1)
    connection.execute("CREATE TABLE notes (pos INTEGER PRIMARY KEY, n, text)")
    insert_rows(connection, "INSERT INTO notes (n, text)", [(n, str(n)) for n in range(count)])
    found = connection.execute("SELECT n, text FROM notes ORDER BY pos").fetchall()
    assert found == [(n, str(n)) for n in range(count)]
    connection.close()
