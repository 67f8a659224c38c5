"""Heads: what a query finds in a journal, page after page."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

import msgspec

from collegium.domain.head import Head, HeadQuery


class Listing(Protocol):
    """Where heads are found: a journal."""

    async def heads(self, query: HeadQuery) -> tuple[Head, ...]:
        """One page of what ``query`` finds, in its order."""
        ...


async def heads_of(journal: Listing, query: HeadQuery) -> AsyncIterator[Head]:
    """All that ``query`` finds, in its order; ``query.limit`` is how much is asked for at a time.

    A head that moves between two pages may come twice or, where it no longer fits the query, not at all.
    """
    while page := await journal.heads(query):
        for head in page:
            yield head
        if len(page) < query.limit:
            return
        last = page[-1]
        query = msgspec.structs.replace(query, after=last.run, after_wake_at=last.wake_at)
