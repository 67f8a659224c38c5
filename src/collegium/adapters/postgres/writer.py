"""The group-committing writer: one queue and one connection per process and PostgreSQL store.

Items wait in the queue. All that wait go into one transaction of two round trips: the first locks what they stand on,
heads in the order of their runs, so that writers of several processes never lock each other out; the second writes and
commits. An item that refuses fails alone. A transaction that meets a deadlock, or whose connection breaks before the
commit was sent, is made again; where it breaks after that, the store is looked at: what it holds is the answer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final, Protocol

import psycopg

from collegium.adapters.postgres.connection import Connection, is_data, is_lost, is_retryable, store_error
from collegium.adapters.postgres.wire import BEGIN, COMMIT, Batch
from collegium.domain.errors import CollegiumError, StoreError, StoreUnavailable

_MAX_ITEMS: Final = 2_000
_MAX_BYTES: Final = 16 * 1024 * 1024
_TRIES: Final = 5
_PAUSE_S: Final = 0.05
SILENCE_S: Final = 75.0
"""A server that has answered nothing for so long is away: it ends every statement sooner than that."""
_log = logging.getLogger("collegium.postgres")


class Item:
    """One thing to be written; by itself nothing, only a barrier."""

    __slots__ = ("_done", "error", "is_done")
    size_bytes = 0
    """About how much is to be sent."""

    def __init__(self) -> None:
        self.error: CollegiumError | None = None
        self.is_done = False
        self._done: asyncio.Future[None] | None = None

    def failed(self, error: CollegiumError) -> None:
        """Takes note that nothing of it is stored; called before any later item is looked at."""

    def finish(self) -> None:
        """Says that it is durable, or why it is not."""
        self.is_done = True
        if self._done is not None and not self._done.done():
            self._done.set_result(None)

    async def wait(self) -> None:
        """Returns once it is durable. Raises its refusal, or the ``StoreError`` of its transaction."""
        if not self.is_done:
            if self._done is None:
                self._done = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._done)
        if self.error is not None:
            # A fresh one for every waiter: a raised exception collects the tracebacks of all who raise it.
            raise type(self.error)(self.error.message, **self.error.fields)


class Deed(Item):
    """An item with a transaction of its own, of as many round trips as it takes; made again when it breaks."""

    __slots__ = ()

    async def act(self, connection: Connection) -> None:
        """Reads and writes inside the open transaction. Raises ``CollegiumError`` to refuse: nothing is kept of it."""
        raise NotImplementedError


class Part(Protocol):
    """What the items of one kind share in a transaction: asked for and locked first, judged, written last."""

    def take(self, items: Sequence[Item]) -> bool:
        """Takes the items of its kind; whether there is anything to ask for or to write."""
        ...

    def ask(self, batch: Batch) -> None:
        """Asks for everything that the items stand on; the answers are there when it is to judge."""
        ...

    def judge(self, batch: Batch) -> bool:
        """Refuses what cannot be written; whether there is anything to write."""
        ...

    def write(self, batch: Batch) -> None:
        """Writes what the items have come to, just before the commit."""
        ...

    async def is_stored(self, connection: Connection) -> bool:
        """Whether what was written is there, when nobody heard of the commit; False where writing it again is fine."""
        ...

    def ended(self, *, is_committed: bool) -> None:
        """The transaction is over."""
        ...


class WriterStats:
    """Counters since the start; only grow."""

    def __init__(self) -> None:
        self.commits = 0
        """Transactions that were committed: one wait for the server's disk each."""
        self.items = 0
        """Items that went through a transaction, refused ones included."""
        self.failures = 0
        """Transactions that failed."""


class Writer:
    """Owns the one write connection of this process to a store.

    Args:
        connect: Opens a connection.
        place: Where the store is, for messages.
        linger_s: How long an item that nobody waits for may wait for company.
        patience_s: How long the store may be away before what waits for it fails.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[Connection]],
        *,
        place: str,
        linger_s: float = 0.01,
        patience_s: float = 10.0,
    ) -> None:
        self.stats = WriterStats()
        self._connect = connect
        self._place = place
        self._linger_s = linger_s
        self._patience_s = patience_s
        self._parts: list[Part] = []
        self._queue: list[Item] = []
        self._urged = asyncio.Event()
        self._is_closing = False
        self._is_busy = False
        self._connection: Connection | None = None
        self._working: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_idle(self) -> bool:
        """Whether everything that was put is settled."""
        return not self._queue and not self._is_busy

    def join(self, part: Part) -> None:
        """Makes ``part`` take part in every transaction; before the first item is put."""
        self._parts.append(part)

    def put(self, item: Item) -> None:
        """Orders ``item`` behind all before it; it is written within ``linger_s``, or when somebody waits for it."""
        if self._is_closing:
            self._finish([item], StoreUnavailable(f"{self._place} is closed", store=self._place))
            return
        self._queue.append(item)
        if self._timer is None and not self._urged.is_set():
            self._timer = asyncio.get_running_loop().call_later(self._linger_s, self._urge)
        if self._working is None:
            self._working = asyncio.create_task(self._work(), name=f"writer of {self._place}")

    async def settled(self, item: Item) -> None:
        """Returns once ``item`` is durable. Raises its own refusal, or the ``StoreError`` of its transaction."""
        if not item.is_done:
            await asyncio.sleep(0)  # who else is about to wait shares the commit
            self._urge()
        await item.wait()

    async def aclose(self) -> None:
        """Writes what waits, then closes the connection; twice is harmless."""
        self._is_closing = True
        self._urge()
        if self._working is not None:
            await self._working
            self._working = None
        await self._hang_up()

    def _urge(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._urged.set()

    async def _work(self) -> None:
        items: list[Item] = []
        try:
            while self._queue or not self._is_closing:
                await self._urged.wait()
                self._urged.clear()
                while self._queue:
                    self._is_busy = True
                    items = self._take()
                    await self._group(items)
                self._is_busy = False
        finally:
            self._is_busy, self._is_closing = False, True
            if self._queue or items:  # the process ends in the middle of it
                self._finish(
                    [i for i in (*items, *self._queue) if not i.is_done],
                    StoreUnavailable(f"{self._place} was closed", store=self._place),
                )

    def _take(self) -> list[Item]:
        """The next group: as many as fit, or a deed alone."""
        size = count = 0
        for item in self._queue[:_MAX_ITEMS]:
            size += item.size_bytes
            if count and (size > _MAX_BYTES or isinstance(item, Deed)):
                break
            count += 1
            if isinstance(item, Deed):
                break
        items, self._queue = self._queue[:count], self._queue[count:]
        return items

    async def _group(self, items: Sequence[Item]) -> None:
        self.stats.items += len(items)
        error: CollegiumError
        try:
            if await self._transact(items):
                self.stats.commits += 1
        except psycopg.Error as failure:
            self._end(is_committed=False)
            if len(items) > 1 and is_data(failure):
                # One of them is what no store can keep. The others must not suffer for it.
                middle = len(items) // 2
                await self._group(items[:middle])
                await self._group(items[middle:])
                return
            error = store_error(failure, self._place)
        except CollegiumError as failure:
            error = failure
        except OSError as failure:
            error = StoreUnavailable(f"{self._place} does not answer ({failure})", store=self._place)
        except Exception as failure:  # noqa: BLE001 the task's edge: whoever waits must hear of it
            error = StoreError(f"the writer of {self._place} failed: {failure!r}", store=self._place)
            _log.exception("a transaction failed")
        else:
            self._end(is_committed=True)
            self._finish(items, None)
            return
        self.stats.failures += 1
        self._end(is_committed=False)
        self._finish(items, error)

    def _end(self, *, is_committed: bool) -> None:
        for part in self._parts:
            part.ended(is_committed=is_committed)

    def _finish(self, items: Sequence[Item], error: CollegiumError | None) -> None:
        for item in items:
            if error is not None:
                item.error = error
            if item.error is not None:
                item.failed(item.error)
        for item in items:
            item.finish()

    async def _transact(self, items: Sequence[Item]) -> bool:
        """Writes all that may be written; whether there was a commit. Tries again as long as that is worth it."""
        deadline = asyncio.get_running_loop().time() + self._patience_s
        tries = 0
        while True:
            tries += 1
            attempt = _Attempt(items, self._parts)
            try:
                if not attempt.is_needed:
                    return False
                if self._connection is None:
                    self._connection = await self._connect()
                async with asyncio.timeout(SILENCE_S):
                    return await attempt.make(self._connection)
            except (psycopg.Error, StoreUnavailable, OSError) as error:
                is_gone = is_lost(error)
                await self._recover(is_gone=is_gone)
                if is_gone and attempt.is_sent and await self._has_committed(deadline):
                    return True
                is_late = asyncio.get_running_loop().time() >= deadline
                if is_late or not (is_gone or (is_retryable(error) and tries < _TRIES)):
                    raise
                self._end(is_committed=False)
                await asyncio.sleep(_PAUSE_S * min(tries, 20))

    async def _recover(self, *, is_gone: bool) -> None:
        if self._connection is not None and not is_gone:
            with suppress(psycopg.Error):
                await self._connection.rollback()
                return
        await self._hang_up()

    async def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error):
                await connection.close()

    async def _has_committed(self, deadline: float) -> bool:
        """What became of a transaction whose commit was perhaps sent. Raises ``StoreUnavailable`` if nobody can say."""
        while True:
            try:
                if self._connection is None:
                    self._connection = await self._connect()
                async with asyncio.timeout(SILENCE_S):
                    return any([await part.is_stored(self._connection) for part in self._parts])
            except (psycopg.Error, StoreUnavailable, OSError) as error:
                await self._recover(is_gone=True)
                if asyncio.get_running_loop().time() >= deadline:
                    raise StoreUnavailable(
                        f"{self._place} went away during a commit and has not come back: what was to be stored may or "
                        "may not be there",
                        store=self._place,
                    ) from error
            await asyncio.sleep(_PAUSE_S)


class _Attempt:
    """One attempt at the transaction of a group."""

    def __init__(self, items: Sequence[Item], parts: Sequence[Part]) -> None:
        for item in items:
            item.error = None
        self.is_sent = False
        self._deeds = [item for item in items if isinstance(item, Deed)]
        # All of them, or none: an append that is judged may leave a blob to be written.
        taken = [part.take(items) for part in parts]
        self._parts = parts if any(taken) else ()

    @property
    def is_needed(self) -> bool:
        return bool(self._deeds or self._parts)

    async def make(self, connection: Connection) -> bool:
        """Whether it was committed; what all items refuse is not."""
        for deed in self._deeds:
            await connection.execute("BEGIN")
            try:
                await deed.act(connection)
            except CollegiumError as refusal:
                deed.error = refusal
                await connection.execute("ROLLBACK")
                return False
        if not self._deeds:
            asked = Batch()
            asked.add(BEGIN)
            for part in self._parts:
                part.ask(asked)
            await asked.exchange(connection)
            judged = [part.judge(asked) for part in self._parts]
            if not any(judged):
                await connection.execute("ROLLBACK")
                return False
        self.is_sent = True
        written = Batch()
        for part in self._parts:
            part.write(written)
        end = written.add(COMMIT)
        await written.exchange(connection)
        if written.said(end) != "COMMIT":
            raise psycopg.OperationalError("the server has undone the transaction instead of committing it")
        return True
