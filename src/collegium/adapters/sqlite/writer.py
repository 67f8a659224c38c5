"""The group-committing writer: one queue, one connection and one thread per process and store file.

Items wait in the queue. The thread takes all that wait into one transaction, lets each check and write itself, and
commits with one fsync. An item that refuses fails alone; when the transaction fails, all its items fail and the thread
goes on. Nobody has to wait: items that no ``settled()`` waits for linger a few milliseconds, to share the next commit.

Where little waits and the disk has proved quick, whoever waits does the thread's work itself, on the event loop: two
wake-ups cost more than such a commit. One slow commit, or another process that writes, and the thread does it again.
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

from collegium.adapters.encryption.file_key import FileKey
from collegium.adapters.sqlite.connection import connect, store_error
from collegium.adapters.sqlite.standing import Standing
from collegium.domain.errors import CollegiumError, StoreError, StoreUnavailable

_MAX_ITEMS = 2_000
_UNTRIED_S = 1.0
"""What a commit is thought to take before any was seen."""
QUICK_S = 0.002
"""Commits that take no longer may be done in the event loop."""
_MOST_WAITERS = 16
_MOST_ITEMS = 64
"""With more than these a commit is worth a thread: the event loop has other things to do meanwhile."""
_LOOK_S = 1.0
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
    is_large = False
    """Whether it may take long to write."""

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
        key: Its key, where it is encrypted as a whole.
        linger_s: How long an item that nobody waits for may wait for company.
        busy_timeout_s: How long to wait for another process that is writing.
        synchronous: SQLite's word for when to fsync; ``FULL`` at every commit.
        quick_s: As long as commits take no longer than this, whoever waits for one may do it on its own thread;
            with 0 nobody ever does.
    """

    def __init__(
        self,
        path: Path,
        key: FileKey | None = None,
        *,
        linger_s: float = 0.01,
        busy_timeout_s: float = 5.0,
        synchronous: str = "FULL",
        quick_s: float = QUICK_S,
    ) -> None:
        self.stats = WriterStats()
        self._path = path
        self._key = key
        self._linger_s = linger_s
        self._busy_timeout_s = busy_timeout_s
        self._synchronous = synchronous
        self._quick_s = quick_s
        self._parts: list[Part] = []
        self._queue: list[Item] = []
        self._first_at = 0.0
        self._is_urged = False
        self._is_idle = False
        self._is_closing = False
        self._has_timer = False
        self._settling = 0
        self._commit_s = _UNTRIED_S
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        # Held by whoever takes items from the queue until they are done: the thread, or for once a waiter.
        self._at_work = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._standing = Standing(path)
        self._thread = threading.Thread(target=self._work, name=f"writer of {path.name}", daemon=True)
        self._thread.start()

    def join(self, part: Part) -> None:
        """Makes ``part`` take part in every transaction; before the first item is put."""
        self._parts.append(part)

    def put(self, item: Item) -> None:
        """Orders ``item`` behind all before it; it is written within ``linger_s``, or when somebody waits for it."""
        with self._lock:
            if self._is_closing:
                item.error, item.is_done = StoreUnavailable(f"{self._path} is closed", path=str(self._path)), True
                return
            if not self._queue:
                self._first_at = time.monotonic()
            self._queue.append(item)
            if self._is_idle and not self._has_timer:
                self._set_timer(self._linger_s)

    def _set_timer(self, after_s: float) -> None:
        """Wakes the thread after a while, or at once where there is no event loop to tell the time.

        Most items are waited for before that: it costs less than a thread that is woken to linger.
        """
        loop = _running_loop()
        if loop is not None:
            loop.call_later(after_s, self._lingered)
            self._has_timer = True
        else:
            self._is_idle = False
            self._changed.notify()

    def _lingered(self) -> None:
        with self._lock:
            self._has_timer = False
            if not self._queue or not self._is_idle:
                return
            rest_s = self._first_at + self._linger_s - time.monotonic()
            if rest_s > 0:
                self._set_timer(rest_s)
                return
            self._is_idle = False
            self._changed.notify()

    async def settled(self, item: Item) -> None:
        """Returns once ``item`` is durable. Raises its own refusal, or the ``StoreError`` of its transaction."""
        if not item.is_done:
            self._settling += 1
            try:
                await asyncio.sleep(0)  # who else is about to wait shares the commit
            finally:
                self._settling -= 1
        if not item.is_done and not (self._settling < _MOST_WAITERS and self._write_here()):
            waiter = asyncio.get_running_loop().create_future()
            if self._urge(item, waiter):
                await waiter
        if item.error is not None:
            # A fresh one for every waiter: a raised exception collects the tracebacks of all who raise it.
            raise type(item.error)(item.error.message, **item.error.fields)

    def _write_here(self) -> bool:
        """Commits what waits on the thread of the one who waits for it; whether that was done.

        Nothing is done where it could take long, or where the thread is at it already.
        """
        if self._commit_s > self._quick_s or not self._at_work.acquire(blocking=False):
            return False
        try:
            items = self._take_few()
            if items:
                self._finish(items, self._transact(items))
            return bool(items)
        finally:
            self._at_work.release()

    def _take_few(self) -> list[Item]:
        """All that waits, inside a transaction that has begun; nothing where that would take long."""
        connection = self._connection
        with self._lock:
            if connection is None or self._is_closing or not self._queue or len(self._queue) > _MOST_ITEMS:
                return []
            if any(item.is_large for item in self._queue):
                return []
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.Error:  # another process writes, or worse: the thread waits for it, or says what is wrong
                self._commit_s = _UNTRIED_S
                return []
            items, self._queue = self._queue, []
            return items

    def _urge(self, item: Item, waiter: asyncio.Future[None]) -> bool:
        with self._lock:
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
        with self._lock:
            self._is_closing = True
            given_up = [] if drain else self._queue
            if not drain:
                self._queue = []
            self._changed.notify()
        self._finish(given_up, StoreUnavailable(f"{self._path} was closed", path=str(self._path)))
        self._thread.join()

    def _work(self) -> None:
        while self._await_work():
            with self._at_work:
                items = self._take()
                if items:
                    self._finish(items, self._transact(items))
        with self._at_work:
            if self._connection is not None:
                with suppress(StoreError):  # logged; what can be saved is saved
                    self._standing.check(self._connection)
                self._connection.close()

    def _await_work(self) -> bool:
        """Returns when something has waited long enough; whether there is anything left to do."""
        with self._lock:
            while not self._queue and not self._is_closing:
                self._is_idle, self._is_urged = True, False
                # Not for ever: the loop that was to wake it may be gone.
                self._changed.wait(_LOOK_S)
            self._is_idle = self._has_timer = False
            while not self._is_urged and not self._is_closing:
                rest_s = self._first_at + self._linger_s - time.monotonic()
                if rest_s <= 0:
                    break
                self._changed.wait(rest_s)
            return bool(self._queue) or not self._is_closing

    def _take(self) -> list[Item]:
        with self._lock:
            items, self._queue = self._queue[:_MAX_ITEMS], self._queue[_MAX_ITEMS:]
            # What is left was waited for, or has lingered long enough already.
            self._is_urged = bool(self._queue)
            return items

    def _transact(self, items: Sequence[Item]) -> CollegiumError | None:
        self.stats.items += len(items)
        begun = time.monotonic()
        try:
            self._write(items)
        except sqlite3.Error as failure:
            return self._failed(items, store_error(failure, self._path), failure)
        except StoreError as failure:
            return self._failed(items, failure, failure)
        except BaseException as failure:
            error = StoreError(f"the writer of {self._path} failed: {failure!r}", path=str(self._path))
            error.__cause__ = failure
            self._failed(items, error, failure)
            if isinstance(failure, Exception):
                return error  # the thread's edge: whoever waits must hear of it
            self._finish(items, error)  # an interrupt, on the thread of the one who waits
            raise
        self.stats.commits += 1
        # One slow commit is remembered for a while, so that a slow disk never stops the event loop for long.
        self._commit_s = max(time.monotonic() - begun, 0.8 * self._commit_s)
        for part in self._parts:
            part.ended(is_committed=True)
        return None

    def _failed(self, items: Sequence[Item], error: CollegiumError, failure: BaseException) -> CollegiumError:
        """Undoes the transaction and tells everybody of it; returns ``error``."""
        self._recover(failure)
        self._commit_s = _UNTRIED_S
        self.stats.failures += 1
        for part in self._parts:
            part.ended(is_committed=False)
        for item in items:
            if item.error is None:
                item.error = error
                item.failed(error)
        return error

    def _write(self, items: Sequence[Item]) -> None:
        if self._connection is None:
            self._standing.check(None)  # a connection to a file that is gone would make a new one
            self._connection = connect(
                self._path, self._key, synchronous=self._synchronous, busy_timeout_s=self._busy_timeout_s
            )
            # Waiting for another process is done by ``_begin``, in the thread alone.
            self._connection.execute("PRAGMA busy_timeout=0")
        connection = self._connection
        if not connection.in_transaction:
            self._begin(connection)
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
        self._standing.check(connection)

    def _begin(self, connection: sqlite3.Connection) -> None:
        """Takes the write lock, as soon as no other process has it."""
        deadline, rest_s = time.monotonic() + self._busy_timeout_s, 0.001
        while True:
            try:
                connection.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError as error:
                if (error.sqlite_errorcode or 0) & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= deadline:
                    raise
            time.sleep(rest_s)
            rest_s = min(2 * rest_s, 0.05)

    def _recover(self, failure: BaseException) -> None:
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
        with self._lock:
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

    if _running_loop() is loop:
        wake()
        return
    with suppress(RuntimeError):  # the loop is closed: nobody waits any more
        loop.call_soon_threadsafe(wake)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
