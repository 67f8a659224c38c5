"""A journal whose lists for people are read from a replica."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

from collegium.domain.errors import StoreError
from collegium.domain.event import Draft, Event
from collegium.domain.head import Fence, Head, HeadChange, HeadQuery
from collegium.ports import Clock, Journal, Receipt
from collegium.runtime.heads import Listing

PAUSE_S: Final = 10.0
"""So long a replica that did not answer is not asked again."""
_log = logging.getLogger("collegium.replica")


class ReplicatedJournal:
    """Implements ``Journal``: a query with ``may_lag`` goes to the replica, all else to the journal itself.

    Whoever decides reads the journal itself; a replica is behind it, by milliseconds as a rule. One that does not
    answer is left alone for a while, and the journal itself is asked instead.
    """

    def __init__(self, journal: Journal, replica: Listing, *, clock: Clock) -> None:
        self._journal = journal
        self._replica = replica
        self._clock = clock
        self._again_s = 0.0
        self.answered = 0
        """Queries that the replica has answered."""

    async def heads(self, query: HeadQuery) -> tuple[Head, ...]:
        """Heads by index; see ``Journal.heads``."""
        if query.may_lag and self._clock.monotonic() >= self._again_s:
            try:
                found = await self._replica.heads(query)
            except StoreError as error:
                self._again_s = self._clock.monotonic() + PAUSE_S
                _log.warning("the replica is left alone for %g s: %s", PAUSE_S, error)
            else:
                self.answered += 1
                return found
        return await self._journal.heads(query)

    def append(
        self,
        run: str,
        drafts: Sequence[Draft],
        *,
        expected: int | None = None,
        fence: Fence | tuple[Fence, ...] | None = None,
        head: HeadChange | None = None,
    ) -> Receipt:
        """Orders ``drafts`` as the next events of ``run``."""
        return self._journal.append(run, drafts, expected=expected, fence=fence, head=head)

    async def read(self, run: str, after: int = 0, limit: int = 1_000) -> tuple[Event, ...]:
        """Durable events of ``run``, in order."""
        return await self._journal.read(run, after, limit)

    async def head(self, run: str) -> Head | None:
        """The head row of ``run`` or None."""
        return await self._journal.head(run)

    async def scan(self, after: str = "", limit: int = 1_000) -> tuple[tuple[Event, ...], str]:
        """Events of all runs."""
        return await self._journal.scan(after, limit)
