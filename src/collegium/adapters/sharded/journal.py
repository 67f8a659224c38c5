"""Journals over several stores: each run in the shard that its id names, accounts and all else in the catalogue."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from collegium.adapters.sharded.blobs import GuardedBlobs
from collegium.adapters.sharded.line import Line, Order, RefusedReceipt
from collegium.adapters.sharded.shard import CATALOGUE, Shard
from collegium.adapters.sharded.shards import Shards
from collegium.domain.errors import NotFound, StoreError, StoreUnavailable
from collegium.domain.event import Draft, Event
from collegium.domain.head import Fence, Head, HeadChange, HeadQuery
from collegium.ports import Receipt

SWEEP_PATIENCE_S: Final = 2.0
"""So long a list that may lack runs waits for a shard; then it goes on without it until the shard is back."""
_CURSORS: Final = msgspec.json.Decoder(dict[int, str])


class ShardedJournal:
    """Implements ``Journal`` over shards.

    What is asked of a shard that is away raises ``StoreUnavailable`` with its number in ``fields["shard"]``.

    Args:
        shards: Where runs are.
        blobs: The catalogue's, as everybody in this process puts them.
        patience_s: How long a query with ``may_lack`` waits for a shard.
    """

    def __init__(self, shards: Shards, blobs: GuardedBlobs, *, patience_s: float = SWEEP_PATIENCE_S) -> None:
        self._shards = shards
        self._lines = {n: Line(shard, blobs) for n, shard in shards.all.items() if n != CATALOGUE}
        self._patience_s = patience_s

    def append(
        self,
        run: str,
        drafts: Sequence[Draft],
        *,
        expected: int | None = None,
        fence: Fence | tuple[Fence, ...] | None = None,
        head: HeadChange | None = None,
    ) -> Receipt:
        """Orders ``drafts`` as the next events of ``run``; see ``Journal.append``."""
        try:
            shard = self._shards.of(run)
        except NotFound as error:
            return RefusedReceipt(error)
        if shard.number == CATALOGUE:  # its writer keeps blobs and events in order by itself
            return shard.journal.append(run, drafts, expected=expected, fence=fence, head=head)
        return self._lines[shard.number].append(
            Order(run=run, drafts=drafts, expected=expected, fence=fence, head=head)
        )

    async def read(self, run: str, after: int = 0, limit: int = 1_000) -> tuple[Event, ...]:
        """Durable events of ``run``, in order. Raises ``NotFound`` for a run of an unknown shard."""
        shard = self._shards.of(run)
        try:
            return await shard.journal.read(run, after, limit)
        except StoreError as error:
            raise shard.told(error) from error

    async def head(self, run: str) -> Head | None:
        """The head row of ``run`` or None. Raises ``NotFound`` for a run of an unknown shard."""
        shard = self._shards.of(run)
        try:
            return await shard.journal.head(run)
        except StoreError as error:
            raise shard.told(error) from error

    async def heads(self, query: HeadQuery) -> tuple[Head, ...]:
        """Heads of all shards in the order of ``query``; each page is asked of all of them at once."""
        if query.limit <= 0 or frozenset() in (query.statuses, query.projects):
            return ()
        query = await self._placed(query)
        pages = await (self._of_those_there(query) if query.may_lack else self._of_all(query))
        found = [head for page in pages for head in page]
        if query.due_before is None:
            found.sort(key=lambda head: head.run, reverse=True)
        else:
            found.sort(key=lambda head: (head.wake_at, head.run))
        return tuple(found[: query.limit])

    async def scan(self, after: str = "", limit: int = 1_000) -> tuple[tuple[Event, ...], str]:
        """Events of all shards; the cursor holds one of each.

        Where a shard is away, the others' events come first; when there are no more of those, that is an error.
        """
        cursors = _CURSORS.decode(after) if after else {}
        share, rest = divmod(max(0, limit), len(self._shards.all))
        wanted = {n: share + (place < rest) for place, n in enumerate(self._shards.all)}
        pages = await asyncio.gather(*(self._scan(n, cursors.get(n, ""), size) for n, size in wanted.items()))
        # Who has filled its share may have more, and gets what the others did not need of theirs.
        full = [page.shard for page in pages if page.error is None and len(page.events) == wanted[page.shard]]
        events = [event for page in pages for event in page.events]
        for number in full:
            if len(events) < limit:
                before = next(page for page in pages if page.shard == number)
                page = await self._scan(number, before.cursor, limit - len(events))
                pages.append(page)
                events += page.events
        error = next((page.error for page in pages if page.error is not None), None)
        if error is not None and not events:
            raise error
        cursors |= {page.shard: page.cursor for page in pages}
        return tuple(events), msgspec.json.encode(cursors).decode() if events else after

    async def aclose(self) -> None:
        """Passes on what waits for blobs; twice is harmless."""
        for line in self._lines.values():
            await line.aclose()

    async def _placed(self, query: HeadQuery) -> HeadQuery:
        """``query`` with the place behind which a list of due runs goes on: only one shard knows ``query.after``."""
        if query.due_before is None or query.after is None or query.after_wake_at is not None:
            return query
        head = await self.head(query.after)
        if head is None or head.wake_at is None or head.wake_at > query.due_before:
            return msgspec.structs.replace(query, after=None)  # no longer due: the list begins again
        return msgspec.structs.replace(query, after_wake_at=head.wake_at)

    async def _of_all(self, query: HeadQuery) -> list[tuple[Head, ...]]:
        """A page of every shard. Raises ``StoreUnavailable``: a list that lacks runs would be taken for the truth."""
        for shard in self._shards.all.values():
            if shard.is_away:
                raise shard.unavailable()
        pages = await asyncio.gather(*(self._ask(s, query) for s in self._shards.all.values()), return_exceptions=True)
        for page in pages:
            if isinstance(page, BaseException):
                raise page
        return [page for page in pages if not isinstance(page, BaseException)]

    async def _of_those_there(self, query: HeadQuery) -> list[tuple[Head, ...]]:
        """A page of the catalogue, and of each other shard that answers soon."""
        asked = {s: asyncio.create_task(self._ask(s, query)) for s in self._shards.all.values() if not s.is_away}
        try:
            await asyncio.wait(asked.values(), timeout=self._patience_s)
            pages = [await asked.pop(self._shards.catalogue)]
            for shard, task in asked.items():
                if not task.done():
                    shard.missed(f"it did not answer within {self._patience_s:g} s")
                elif not isinstance(task.exception(), StoreUnavailable):
                    pages.append(task.result())
            return pages
        finally:
            for task in asked.values():
                task.cancel()
            await asyncio.gather(*asked.values(), return_exceptions=True)

    async def _ask(self, shard: Shard, query: HeadQuery) -> tuple[Head, ...]:
        try:
            return await shard.journal.heads(query)
        except StoreError as error:
            raise shard.told(error) from error

    async def _scan(self, number: int, after: str, limit: int) -> _Scanned:
        shard = self._shards.all[number]
        try:
            events, cursor = await shard.journal.scan(after, limit) if limit else ((), after)
        except StoreError as error:
            return _Scanned(number, (), after, shard.told(error))
        return _Scanned(number, events, cursor)


class _Scanned(NamedTuple):
    """What a scan of one shard gave."""

    shard: int
    events: tuple[Event, ...]
    cursor: str
    error: StoreError | None = None
