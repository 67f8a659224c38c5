"""Read connections to a PostgreSQL store: a small pool, in autocommit, so that nothing is held between two reads."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import asynccontextmanager
from collections.abc import AsyncIterator
from typing import Any

import psycopg
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from collegium.adapters.postgres.connection import Connection, conninfo_of, place_of, store_error
from collegium.domain.errors import StoreUnavailable

Row = tuple[Any, ...]
_STATEMENT_TIMEOUT = "-c statement_timeout=60s -c idle_in_transaction_session_timeout=10s"


class Reader:
    """Runs reads on a store whose tables exist.

    Args:
        url: The store; a replica will do for listings.
        size: The most connections at once.
        wait_s: How long a read waits for a connection, and for a store that is away.
    """

    def __init__(self, url: str, *, size: int = 4, wait_s: float = 10.0) -> None:
        self.place = place_of(url)
        self._pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
            conninfo_of(url),
            min_size=1,
            max_size=size,
            timeout=wait_s,
            kwargs={"autocommit": True, "options": _STATEMENT_TIMEOUT},
            check=AsyncConnectionPool.check_connection,
            open=False,
            name="collegium",
        )

    async def open(self) -> None:
        """Opens the pool; the first connection is made in the background."""
        await self._pool.open()

    async def rows(self, query: str, values: Sequence[object] = ()) -> list[Row]:
        """All rows of ``query``. Raises ``StoreError``."""
        async with self.connection() as connection:
            cursor = await connection.execute(query, values)  # type: ignore[arg-type] # constants of these modules
            return await cursor.fetchall()

    async def row(self, query: str, values: Sequence[object] = ()) -> Row | None:
        """The first row of ``query`` or None. Raises ``StoreError``."""
        rows = await self.rows(query, values)
        return rows[0] if rows else None

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection for several reads, or for a transaction of one's own. Raises ``StoreError``."""
        try:
            async with self._pool.connection() as connection:
                yield connection
        except PoolTimeout as error:
            raise StoreUnavailable(f"{self.place} cannot be reached; it is tried again", store=self.place) from error
        except psycopg.Error as error:
            raise store_error(error, self.place) from error

    async def aclose(self) -> None:
        """Closes all connections; twice is harmless."""
        await self._pool.close()
