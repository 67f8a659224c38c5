"""A journal in this process's memory: the rules of every journal, without its durability."""

from __future__ import annotations

import asyncio
import os
from bisect import bisect_right
from collections.abc import Sequence

from collegium.adapters.admission import Admitted, Append, Doubts, admit, prepare
from collegium.adapters.rows import (
    Entropy,
    EventRow,
    FenceRow,
    HeadRow,
    seal,
    sealed_event,
    to_event,
    to_head,
    to_link,
    to_us,
)
from collegium.domain import chain
from collegium.domain.chain import Link
from collegium.domain.checkpoint import Entry
from collegium.domain.errors import CollegiumError, Conflict, NotFound
from collegium.domain.event import Draft, Event
from collegium.domain.head import FINISHED, Fence, Head, HeadChange, HeadQuery
from collegium.domain.tombstone import Tombstone


class MemoryJournal:
    """Implements ``Journal``; all is lost with the process.

    Args:
        chain_key: Key of the chain; without one it detects accidents only.
        entropy: Source of salts.
    """

    def __init__(self, *, chain_key: bytes = chain.PUBLIC_KEY, entropy: Entropy = os.urandom) -> None:
        self._key = chain_key
        self._entropy = entropy
        self._heads: dict[str, HeadRow] = {}
        self._fences: dict[str, dict[str, FenceRow]] = {}
        self._events: dict[str, list[EventRow]] = {}
        self._all: list[EventRow] = []
        self._doubts = Doubts()
        self.tombstones: dict[str, Tombstone] = {}
        """What is left of pruned runs."""

    @property
    def key(self) -> bytes:
        """Key of the chain."""
        return self._key

    def append(
        self,
        run: str,
        drafts: Sequence[Draft],
        *,
        expected: int | None = None,
        fence: Fence | tuple[Fence, ...] | None = None,
        head: HeadChange | None = None,
    ) -> MemoryReceipt:
        """Stores ``drafts`` at once, or keeps the refusal for whoever waits on the receipt."""
        request = prepare(run, drafts, expected=expected, fence=fence, head=head)
        receipt = MemoryReceipt(request, self._doubts)
        try:
            self._doubts.check(request, self._doubts.ticket())
            known = self._fences.get(run, {})
            admitted = admit(request, self._heads.get(run), known.get)
        except CollegiumError as error:
            receipt.error = error
            self._doubts.failed(request, error, receipt)
        else:
            receipt.rows = self._store(request, admitted)
        return receipt

    def _store(self, request: Append, admitted: Admitted) -> list[EventRow]:
        events = self._events.setdefault(request.run, [])
        head = self._heads.get(request.run)
        last = (head.seq, head.mac) if head is not None else (0, chain.GENESIS)
        rows = seal(request.run, request.entries, after=last, key=self._key, entropy=self._entropy)
        events.extend(rows)
        self._all.extend(rows)
        self._heads[request.run] = admitted.head._replace(mac=rows[-1].mac)
        self._fences.setdefault(request.run, {}).update(admitted.fences)
        for task, row in admitted.fences.items():
            if not row.is_open:
                self._doubts.closed(request.run, task, row.attempt)
        return rows

    async def read(self, run: str, after: int = 0, limit: int = 1_000) -> tuple[Event, ...]:
        """Events of ``run`` with ``seq > after``, in order; empty for an unknown run."""
        rows = self.rows(run, after, limit)
        if run in self.tombstones and any(row.body is None for row in rows):
            raise NotFound(str(self.tombstones[run]), run=run, pruned=True)
        return tuple(map(to_event, rows))

    def adopt(self, links: Sequence[Link], head: Head) -> None:
        """Takes a run in as it is stored elsewhere, chain and all, under a ``head`` that nobody has to look at."""
        rows = [EventRow(*link[:9], link.body, link.salt, link.digest, link.mac) for link in links]  # type: ignore[arg-type] # a removed body stays one
        self._events[head.run] = rows
        self._all.extend(rows)
        self._heads[head.run] = HeadRow(
            head.tenant, head.status, head.seq, bytes.fromhex(head.mac), head.deciding_seq, None, head.project
        )

    @property
    def runs(self) -> tuple[str, ...]:
        """All runs that have events."""
        return tuple(self._events)

    def rows(self, run: str, after: int = 0, limit: int = 1_000) -> list[EventRow]:
        """What is stored of ``run`` with ``seq > after``, in order."""
        rows = self._events.get(run, [])
        start = bisect_right(rows, after, key=lambda row: row.seq)
        return rows[start : start + max(0, limit)]

    def prune(self, tombstone: Tombstone) -> None:
        """Removes what ``tombstone`` says and keeps it. Raises ``Conflict`` for a run that goes on or has moved."""
        run, head = tombstone.run, self._heads.get(tombstone.run)
        stands = None if head is None else (head.seq, head.mac.hex(), head.status in FINISHED)
        if stands != (tombstone.seq, tombstone.mac, True):
            raise Conflict(f"{run} has moved since it was looked at: it is not pruned", run=run)
        rows = self._events.get(run, [])
        kept = [row for row in rows if row.seq <= tombstone.kept]
        erased = [row._replace(body=None) for row in rows[len(kept) :]]  # type: ignore[arg-type] # as SQLite's NULL
        self._events[run] = kept if tombstone.what == "run" else [*kept, *erased]
        self._all = [row for row in self._all if row.run != run or row.seq <= tombstone.kept]
        self._fences.pop(run, None)
        self.tombstones[run] = tombstone

    def standing(self) -> list[tuple[str, Entry]]:
        """Tenant and last event of every run."""
        return [(row.tenant, Entry(run, row.seq, row.mac.hex())) for run, row in self._heads.items()]

    async def head(self, run: str) -> Head | None:
        """The head of ``run`` or None."""
        row = self._heads.get(run)
        return None if row is None else to_head(run, row)

    async def heads(self, query: HeadQuery) -> tuple[Head, ...]:
        """Heads, oldest wake-up (with ``due_before``) or newest run first."""
        found = [(run, row) for run, row in self._heads.items() if self._matches(run, row, query)]
        if query.due_before is None:
            found.sort(key=lambda item: item[0], reverse=True)
            if query.after is not None:
                found = [item for item in found if item[0] < query.after]
        else:
            found.sort(key=_wake_order)
            if query.after is not None and query.after_wake_at is not None:
                place = (to_us(query.after_wake_at), query.after)
                found = found[bisect_right(found, place, key=_wake_order) :]
                return tuple(to_head(run, row) for run, row in found[: max(0, query.limit)])
            last = None if query.after is None else self._heads.get(query.after)
            # A run that is no longer due marks no place in the list: begin again.
            if query.after is not None and last is not None and self._matches(query.after, last, query):
                found = found[bisect_right(found, _wake_order((query.after, last)), key=_wake_order) :]
        return tuple(to_head(run, row) for run, row in found[: max(0, query.limit)])

    def _matches(self, run: str, row: HeadRow, query: HeadQuery) -> bool:
        if query.tenant is not None and row.tenant != query.tenant:
            return False
        if query.statuses is not None and row.status not in query.statuses:
            return False
        if query.projects is not None and row.project not in query.projects:
            return False
        if query.due_before is not None and (row.wake_us is None or row.wake_us > to_us(query.due_before)):
            return False
        return query.worker is None or any(
            fence.is_open and fence.worker == query.worker for fence in self._fences.get(run, {}).values()
        )

    async def scan(self, after: str = "", limit: int = 1_000) -> tuple[tuple[Event, ...], str]:
        """Events of all runs in the order they were stored, and the cursor to go on from."""
        start = int(after or 0)
        rows = self._all[start : start + max(0, limit)]
        return tuple(map(to_event, rows)), str(start + len(rows)) if rows else after

    async def verify(self, run: str) -> int | None:
        """The first seq of ``run`` whose event is not as it was written, or None."""
        head = self._heads.get(run)
        links = map(to_link, self._events.get(run, ()))
        return chain.verify(self._key, links, head=None if head is None else (head.seq, head.mac))


class MemoryReceipt:
    """Implements ``Receipt``: the outcome stands already."""

    __slots__ = ("_doubts", "_request", "error", "rows")

    def __init__(self, request: Append, doubts: Doubts) -> None:
        self.rows: list[EventRow] = []
        self.error: CollegiumError | None = None
        self._request = request
        self._doubts = doubts

    async def durable(self) -> tuple[Event, ...]:
        """The stored events, after one turn of the event loop. Raises ``Conflict``, ``Fenced`` or ``NotFound``."""
        await asyncio.sleep(0)
        if self.error is not None:
            self._doubts.heard(self._request, self)
            raise self.error
        return tuple(map(sealed_event, self._request.entries, self.rows))


def _wake_order(item: tuple[str, HeadRow]) -> tuple[int, str]:
    run, row = item
    return (0 if row.wake_us is None else row.wake_us, run)
