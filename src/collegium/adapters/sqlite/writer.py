"""The group-committing writer: one thread per process and store file.

Items wait in one queue. The thread takes all that wait into one transaction, lets each check and write itself, and
commits with one fsync. An item that refuses fails alone; when the transaction fails, all its items fail and the thread
goes on. Nobody has to wait: items that no ``settled()`` waits for linger a few milliseconds, to share the next commit.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from collegium.adapters.sqlite.connection import connect, store_error
from collegium.domain.errors import CollegiumError, StoreError, StoreUnavailable

_MAX_ITEMS = 2_000
_FATAL = frozenset({sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CANTOPEN})


class Part(Protocol):
    """What the items of one kind share in a transaction; called in the writer's thread, for every transaction."""

    def begin(self, connection: sqlite3.Connection) -> None:
        """The transaction is open and nobody else can write until it ends."""
        ...

    def flush(self, connection: sqlite3.Connection) -> None:
        """Writes what the items have gathered, just before the commit."""
        ...

    def ended(self, *, is_committed: bool) -> None:
        """The transaction is over."""
        ...


class Item:
    """One thing to be written; by itself nothing, only a barrier. Subclasses say what in ``apply``."""

    __slots__ = ("_waiters", "error", "is_done")

    def __init__(self) -> None:
        self.error: CollegiumError | None = None
        self.is_done = False
        self._waiters: list[asyncio.Future[None]] | None = None

    def apply(self, connection: sqlite3.Connection) -> None:
        """Checks and writes, in the writer's thread. Raises ``CollegiumError``, with nothing changed, to fail alone."""

    def failed(self, error: CollegiumError) -> None:
        """Takes note that nothing of it is stored; called in the writer's thread before any later item is applied."""


class WriterStats:
    """Counters since the start; only grow."""

    def __init__(self) -> None:
        self.commits = 0
        """Transactions that were committed: one fsync each, beside those of checkpoints."""
        self.items = 0
        """Items that went through a transaction, refused ones included."""
        self.failures = 0
        """Transactions that failed."""


class Writer:
    """Owns the one write connection of this process to a store file.

    Args:
        path: The store file; its tables exist.
        linger_s: How long an item that nobody waits for may wait for company.
        busy_timeout_s: How long to wait for another process that is writing.
        synchronous: SQLite's word for when to fsync; ``FULL`` at every commit.
    """

    def __init__(
        self, path: Path, *, linger_s: float = 0.01, busy_timeout_s: float = 5.0, synchronous: str = "FULL"
    ) -> None:
        self.stats = WriterStats()
        self._path = path
        self._linger_s = linger_s
        self._busy_timeout_s = busy_timeout_s
        self._synchronous = synchronous
        self._parts: list[Part] = []
        self._queue: list[Item] = []
        self._first_at = 0.0
        self._is_urged = False
        self._is_idle = False
        self._is_closing = False
        self._changed = threading.Condition(threading.Lock())
        self._connection: sqlite3.Connection | None = None
        self._thread = threading.Thread(target=self._work, name=f"writer of {path.name}", daemon=True)
        self._thread.start()

    def join(self, part: Part) -> None:
        """Makes ``part`` take part in every transaction; before the first item is put."""
        self._parts.append(part)

    def put(self, item: Item) -> None:
        """Orders ``item`` behind all before it; it is written within ``linger_s``, or when somebody waits for it."""
        with self._changed:
            if self._is_closing:
                item.error, item.is_done = StoreUnavailable(f"{self._path} is closed", path=str(self._path)), True
                return
            if not self._queue:
                self._first_at = time.monotonic()
            self._queue.append(item)
            if self._is_idle:
                self._is_idle = False
                self._changed.notify()

    async def settled(self, item: Item) -> None:
        """Returns once ``item`` is durable. Raises its own refusal, or the ``StoreError`` of its transaction."""
        if not item.is_done:
            waiter = asyncio.get_running_loop().create_future()
            if self._urge(item, waiter):
                await waiter
        if item.error is not None:
            # A fresh one for every waiter: a raised exception collects the tracebacks of all who raise it.
            raise type(item.error)(item.error.message, **item.error.fields)

    def _urge(self, item: Item, waiter: asyncio.Future[None]) -> bool:
        with self._changed:
            if item.is_done:
                return False
            if item._waiters is None:  # noqa: SLF001 the writer keeps its own list on the item
                item._waiters = []  # noqa: SLF001
            item._waiters.append(waiter)  # noqa: SLF001
            self._is_urged = True
            self._changed.notify()
            return True

    def close(self, *, drain: bool = True) -> None:
        """Writes what waits (or, without ``drain``, fails it), then ends the thread; twice is harmless. Blocks."""
        with self._changed:
            self._is_closing = True
            given_up = [] if drain else self._queue
            if not drain:
                self._queue = []
            self._changed.notify()
        self._finish(given_up, StoreUnavailable(f"{self._path} was closed", path=str(self._path)))
        self._thread.join()

    def _work(self) -> None:
        while True:
            items = self._take()
            if not items:
                break
            error = self._transact(items)
            self._finish(items, error)
        if self._connection is not None:
            self._connection.close()

    def _take(self) -> list[Item]:
        with self._changed:
            while not self._queue and not self._is_closing:
                self._is_idle, self._is_urged = True, False
                self._changed.wait()
            while not self._is_urged and not self._is_closing:
                rest_s = self._first_at + self._linger_s - time.monotonic()
                if rest_s <= 0:
                    break
                self._changed.wait(rest_s)
            items, self._queue = self._queue[:_MAX_ITEMS], self._queue[_MAX_ITEMS:]
            # What is left was waited for, or has lingered long enough already.
            self._is_urged = bool(self._queue)
            return items

    def _transact(self, items: Sequence[Item]) -> CollegiumError | None:
        self.stats.items += len(items)
        error: CollegiumError | None = None
        try:
            self._write(items)
            self.stats.commits += 1
        except sqlite3.Error as failure:
            error = store_error(failure, self._path)
            self._recover(failure)
        except Exception as failure:  # noqa: BLE001 the thread's edge: whoever waits must hear of it
            error = StoreError(f"the writer of {self._path} failed: {failure!r}", path=str(self._path))
            error.__cause__ = failure
            self._recover(failure)
        if error is not None:
            self.stats.failures += 1
        for part in self._parts:
            part.ended(is_committed=error is None)
        for item in items:
            if error is not None and item.error is None:
                item.error = error
                item.failed(error)
        return error

    def _write(self, items: Sequence[Item]) -> None:
        if self._connection is None:
            self._connection = connect(self._path, synchronous=self._synchronous, busy_timeout_s=self._busy_timeout_s)
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        for part in self._parts:
            part.begin(connection)
        for item in items:
            try:
                item.apply(connection)
            except CollegiumError as refusal:
                item.error = refusal
                item.failed(refusal)  # now: the next item may depend on it
        for part in self._parts:
            part.flush(connection)
        connection.execute("COMMIT")

    def _recover(self, failure: Exception) -> None:
        connection = self._connection
        if connection is None:
            return
        code = getattr(failure, "sqlite_errorcode", 0) or 0
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error:
            code = sqlite3.SQLITE_IOERR
        if code & 0xFF in _FATAL:
            connection.close()
            self._connection = None  # opened anew for the next transaction

    def _finish(self, items: Sequence[Item], error: CollegiumError | None) -> None:
        loops: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
        with self._changed:
            for item in items:
                if item.error is None:
                    item.error = error
                item.is_done = True
                for waiter in item._waiters or ():  # noqa: SLF001
                    loops.setdefault(waiter.get_loop(), []).append(waiter)
                item._waiters = None  # noqa: SLF001
        for loop, waiters in loops.items():
            _wake_in(loop, waiters)


def _wake_in(loop: asyncio.AbstractEventLoop, waiters: Sequence[asyncio.Future[None]]) -> None:
    def wake() -> None:
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    with suppress(RuntimeError):  # the loop is closed: nobody waits any more
        loop.call_soon_threadsafe(wake)
