"""A read replica of a PostgreSQL store, for lists that people look at."""

from __future__ import annotations

from typing import Final

from collegium.adapters.postgres.journal import heads_statement
from collegium.adapters.postgres.reader import Reader
from collegium.adapters.rows import HeadRow, to_head, to_us
from collegium.domain.errors import StoreCorrupt
from collegium.domain.head import Head, HeadQuery

_STORE_ID: Final = "SELECT value FROM meta WHERE key = 'store_id'"


class PostgresReplica:
    """Lists heads; connects when it is first asked, so that a replica that is away keeps nobody from starting.

    Args:
        url: The replica; a role that may read is enough.
        store_id: Whose replica it has to be.
        pool: The most connections at once.
        wait_s: How long a list waits for a replica that is away.
    """

    def __init__(self, url: str, *, store_id: str, pool: int = 2, wait_s: float = 1.0) -> None:
        self._reader = Reader(url, size=pool, wait_s=wait_s)
        self._store_id = store_id
        self._is_known = False

    async def heads(self, query: HeadQuery) -> tuple[Head, ...]:
        """Heads as the replica has them. Raises ``StoreError``."""
        if frozenset() in (query.statuses, query.projects):
            return ()
        if not self._is_known:
            row = await self._reader.row(_STORE_ID)
            if row is None or row[0] != self._store_id:
                raise StoreCorrupt(f"{self._reader.place} is no replica of the store: see [postgres] replica")
            self._is_known = True
        after_us = None if query.after_wake_at is None else to_us(query.after_wake_at)
        sql, values = heads_statement(query, after_us)
        return tuple(to_head(row[0], HeadRow(*row[1:])) for row in await self._reader.rows(sql, values))

    async def aclose(self) -> None:
        """Closes its connections; twice is harmless."""
        await self._reader.aclose()
