"""Read connections to a PostgreSQL store: a few, made when they are needed, that hold nothing between two reads.

A server that restarts closes every connection. Those that are idle show it before they are used; a read that was under
way is made again.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, TypeVar

import psycopg
from psycopg.pq import TransactionStatus

from collegium.adapters.postgres.connection import Connection, connect, is_lost, place_of, store_error
from collegium.adapters.postgres.writer import SILENCE_S
from collegium.domain.errors import StoreUnavailable

T = TypeVar("T")
Row = tuple[Any, ...]
_PAUSE_S: Final = 0.1


class Reader:
    """Runs reads on a store whose tables exist.

    Args:
        url: The store; a replica will do for listings.
        size: The most connections at once.
        wait_s: How long a read waits for a connection, and for a store that is away.
    """

    def __init__(self, url: str, *, size: int = 4, wait_s: float = 10.0) -> None:
        self.place = place_of(url)
        self._url = url
        self._wait_s = wait_s
        self._turns = asyncio.Semaphore(size)
        self._idle: list[Connection] = []
        self._is_closed = False

    async def rows(self, query: str, values: Sequence[object] = ()) -> list[Row]:
        """All rows of ``query``, which reads only. Raises ``StoreError``."""

        async def read(connection: Connection) -> list[Row]:
            cursor = connection.cursor(binary=True)
            await cursor.execute(query, values)
            return await cursor.fetchall()

        return await self._repeated(read)

    async def row(self, query: str, values: Sequence[object] = ()) -> Row | None:
        """The first row of ``query`` or None. Raises ``StoreError``."""
        rows = await self.rows(query, values)
        return rows[0] if rows else None

    async def at_once(self, read: Callable[[Connection], Awaitable[T]]) -> T:
        """What ``read`` gives while all that it reads is of one moment. Raises ``StoreError``."""

        async def isolated(connection: Connection) -> T:
            await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            try:
                return await read(connection)
            finally:
                if not connection.closed:
                    await connection.execute("COMMIT")

        return await self._repeated(isolated)

    async def change(self, query: str, values: Sequence[object]) -> Row | None:
        """The first row of ``query``, which writes, durably. Raises ``StoreError``; then it may have been written."""
        async with self._connection(self._deadline()) as connection:
            cursor = connection.cursor(binary=True)
            await cursor.execute(query, values)
            return await cursor.fetchone()

    async def aclose(self) -> None:
        """Closes all connections; twice is harmless."""
        self._is_closed = True
        while self._idle:
            await self._idle.pop().close()

    async def _repeated(self, read: Callable[[Connection], Awaitable[T]]) -> T:
        deadline = self._deadline()
        while True:
            try:
                async with self._connection(deadline) as connection, asyncio.timeout(SILENCE_S):
                    return await read(connection)
            except TimeoutError as error:
                raise StoreUnavailable(f"{self.place} does not answer", store=self.place) from error
            except StoreUnavailable as error:
                cause = error.__cause__
                is_cut = isinstance(cause, psycopg.Error) and is_lost(cause) and not self._is_closed
                if not is_cut or asyncio.get_running_loop().time() >= deadline:
                    raise

    def _deadline(self) -> float:
        return asyncio.get_running_loop().time() + self._wait_s

    @asynccontextmanager
    async def _connection(self, deadline: float) -> AsyncIterator[Connection]:
        await self._turn(deadline)
        connection: Connection | None = None
        try:
            connection = await self._take(deadline)
            yield connection
        except psycopg.Error as error:
            raise store_error(error, self.place) from error
        finally:
            if connection is not None:
                await self._give(connection)
            self._turns.release()

    async def _turn(self, deadline: float) -> None:
        if not self._turns.locked():
            await self._turns.acquire()
            return
        try:
            async with asyncio.timeout_at(deadline):
                await self._turns.acquire()
        except TimeoutError as error:
            raise StoreUnavailable(
                f"{self.place} was busy for {self._wait_s:g} s: raise [postgres] pool", store=self.place
            ) from error

    async def _take(self, deadline: float) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if is_open(connection):
                return connection
            await connection.close()
        while True:
            if self._is_closed:
                raise StoreUnavailable(f"{self.place} is closed", store=self.place)
            try:
                return await connect(self._url)
            except StoreUnavailable as error:
                cause = error.__cause__
                is_away = isinstance(cause, psycopg.Error) and is_lost(cause)
                if not is_away or asyncio.get_running_loop().time() + _PAUSE_S >= deadline:
                    raise
            await asyncio.sleep(_PAUSE_S)

    async def _give(self, connection: Connection) -> None:
        if self._is_closed or connection.info.transaction_status != TransactionStatus.IDLE:
            with suppress(psycopg.Error):
                await connection.close()
        else:
            self._idle.append(connection)


def is_open(connection: Connection) -> bool:
    """Whether an idle connection still is one: its server says goodbye, or the socket ends, before it is used."""
    if connection.closed:
        return False
    look = select.poll()
    look.register(connection.fileno(), select.POLLIN)
    if not look.poll(0):
        return True
    with suppress(psycopg.Error):
        connection.pgconn.consume_input()
        return not look.poll(0) and connection.info.transaction_status == TransactionStatus.IDLE
    return False
