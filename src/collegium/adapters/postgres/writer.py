"""The group-committing writer: one queue and one connection per process and PostgreSQL store.

Items wait in the queue. All that wait go into one transaction of two round trips: the first locks what they stand on,
heads in the order of their runs, so that writers of several processes never lock each other out; the second writes and
commits. An item that refuses fails alone. A transaction that meets a deadlock, or whose connection breaks before the
commit was sent, is made again; where it breaks after that, the server is asked what became of it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final, Protocol

import psycopg

from collegium.adapters.postgres.connection import Connection, is_lost, is_retryable, store_error
from collegium.domain.errors import CollegiumError, StoreError, StoreUnavailable
from collegium.ports import Clock

_MAX_ITEMS: Final = 2_000
_TRIES: Final = 5
_PAUSE_S: Final = 0.05
_log = logging.getLogger("collegium.postgres")


class Item:
    """One thing to be written; by itself nothing, only a barrier."""

    __slots__ = ("_done", "error", "is_done")

    def __init__(self) -> None:
        self.error: CollegiumError | None = None
        self.is_done = False
        self._done: asyncio.Future[None] | None = None

    def failed(self, error: CollegiumError) -> None:
        """Takes note that nothing of it is stored; called before any later item is looked at."""

    def finish(self, error: CollegiumError | None) -> None:
        """Says that it is durable, or why it is not."""
        if self.is_done:
            return
        self.error = self.error or error
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


class Part(Protocol):
    """What the items of a transaction are made of: read and locked first, written last."""

    async def look(self, connection: Connection, items: Sequence[Item]) -> None:
        """Asks for everything that the items stand on, inside the open transaction."""
        ...

    async def write(self, connection: Connection) -> None:
        """Writes what the items have come to, just before the commit; inside a pipeline: results are not looked at."""
        ...

    def ended(self, *, is_committed: bool) -> None:
        """The transaction is over."""
        ...


class WriterStats:
    """Counters since the start; only grow."""

    def __init__(self) -> None:
        self.commits = 0
        self.items = 0
        self.failures = 0


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
        clock: Clock,
        linger_s: float = 0.01,
        patience_s: float = 10.0,
    ) -> None:
        self.stats = WriterStats()
        self._connect = connect
        self._place = place
        self._clock = clock
        self._linger_s = linger_s
        self._patience_s = patience_s
        self._parts: list[Part] = []
        self._queue: list[Item] = []
        self._urged = asyncio.Event()
        self._is_closing = False
        self._connection: Connection | None = None
        self._working: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def join(self, part: Part) -> None:
        """Makes ``part`` take part in every transaction; before the first item is put."""
        self._parts.append(part)

    def put(self, item: Item) -> None:
        """Orders ``item`` behind all before it; it is written within ``linger_s``, or when somebody waits for it."""
        if self._is_closing:
            item.finish(StoreUnavailable(f"{self._place} is closed", store=self._place))
            return
        self._queue.append(item)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._linger_s, self._urge)
        if self._working is None:
            self._working = asyncio.create_task(self._work())

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
        if self._connection is not None:
            await self._connection.close()
            self._connection = None

    def _urge(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._urged.set()

    async def _work(self) -> None:
        while self._queue or not self._is_closing:
            await self._urged.wait()
            self._urged.clear()
            while self._queue:
                items, self._queue = self._queue[:_MAX_ITEMS], self._queue[_MAX_ITEMS:]
                self.stats.items += len(items)
                await self._group(items)

    async def _group(self, items: Sequence[Item]) -> None:
        error: CollegiumError | None = None
        try:
            await self._transact(items)
        except psycopg.Error as failure:
            error = store_error(failure, self._place)
        except StoreError as failure:
            error = failure
        except BaseException as failure:
            error = StoreError(f"the writer of {self._place} failed: {failure!r}", store=self._place)
            error.__cause__ = failure
            if not isinstance(failure, Exception):
                self._fail(items, error)
                raise
            _log.exception("a transaction failed")
        if error is not None:
            self._fail(items, error)
            return
        self.stats.commits += 1
        for part in self._parts:
            part.ended(is_committed=True)
        for item in items:
            item.finish(None)

    def _fail(self, items: Sequence[Item], error: CollegiumError) -> None:
        self.stats.failures += 1
        for part in self._parts:
            part.ended(is_committed=False)
        for item in items:
            if item.error is None:
                item.failed(error)
            item.finish(error)

    async def _transact(self, items: Sequence[Item]) -> None:
        deadline = self._clock.monotonic() + self._patience_s
        tries = 0
        while True:
            tries += 1
            xid: int | None = None
            try:
                connection = self._connection or await self._connect()
                self._connection = connection
                xid = await self._begin(connection, items)
                async with connection.pipeline():
                    for part in self._parts:
                        await part.write(connection)
                    await connection.execute("COMMIT")
                return
            except (psycopg.Error, StoreUnavailable) as error:
                is_gone = isinstance(error, StoreUnavailable) or is_lost(error)
                await self._recover(is_gone=is_gone)
                if is_gone and xid is not None and await self._has_committed(xid, deadline):
                    return
                is_late = self._clock.monotonic() >= deadline
                if is_late or not (is_gone or (is_retryable_error(error) and tries < _TRIES)):
                    raise
                for part in self._parts:
                    part.ended(is_committed=False)
                await self._clock.sleep(_PAUSE_S * min(tries, 20))

    async def _begin(self, connection: Connection, items: Sequence[Item]) -> int:
        async with connection.pipeline():
            await connection.execute("BEGIN")
            cursor = await connection.execute("SELECT pg_current_xact_id()::text::bigint")
        (xid,) = await cursor.fetchone() or (0,)
        for part in self._parts:
            await part.look(connection, items)
        return int(xid)

    async def _recover(self, *, is_gone: bool) -> None:
        connection = self._connection
        if connection is None:
            return
        if not is_gone:
            with suppress(psycopg.Error):
                await connection.rollback()
                return
        self._connection = None
        with suppress(psycopg.Error):
            await connection.close()

    async def _has_committed(self, xid: int, deadline: float) -> bool:
        """What became of a transaction whose commit was perhaps sent. Raises ``StoreUnavailable`` if nobody can say."""
        while True:
            try:
                connection = self._connection = self._connection or await self._connect()
                cursor = await connection.execute("SELECT pg_xact_status(%s::text::xid8)", (str(xid),))
                (status,) = await cursor.fetchone() or (None,)
            except (psycopg.Error, StoreUnavailable) as error:
                await self._recover(is_gone=True)
                if self._clock.monotonic() >= deadline:
                    raise StoreUnavailable(
                        f"{self._place} went away during a commit and has not come back: what was to be stored may or "
                        "may not be there",
                        store=self._place,
                    ) from error
            else:
                if status != "in progress":
                    return bool(status == "committed")
            await self._clock.sleep(_PAUSE_S)


def is_retryable_error(error: Exception) -> bool:
    """Whether a transaction that failed so may go through the next time."""
    return isinstance(error, psycopg.Error) and is_retryable(error)
