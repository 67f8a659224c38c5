"""Signed checkpoints in this process's memory."""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec

from collegium.adapters.memory.journal import MemoryJournal
from collegium.domain.checkpoint import Checkpoint, Coverage, Entry, cover, following, is_too_long, taken_in


class MemoryCheckpoints:
    """The part of ``Archive`` that signs, over a journal of the same process.

    Attributes:
        kept: By tenant, in the order of their numbers.
    """

    def __init__(self, journal: MemoryJournal) -> None:
        self.kept: dict[str, list[Checkpoint]] = {}
        self._journal = journal
        self._cursor = 0
        self._written_at: datetime | None = None
        self._signed: dict[str, int] = {}

    def write(self, *, at: datetime, pause_s: float) -> tuple[Checkpoint, ...]:
        """Signs what has changed; see ``Archive.checkpoint``."""
        heads = self._journal.standing()
        cursor = sum(entry.seq for _, entry in heads)
        is_soon = self._written_at is not None and timedelta(0) <= at - self._written_at < timedelta(seconds=pause_s)
        if cursor <= self._cursor or is_soon:
            return ()
        changed: dict[str, list[Entry]] = {}
        for tenant, entry in heads:
            if self._signed.get(entry.run) != entry.seq:
                changed.setdefault(tenant, []).append(entry)
        made = tuple(self._follow(tenant, entries, at, cursor) for tenant, entries in sorted(changed.items()))
        self._cursor, self._written_at = cursor, at
        self._signed.update((entry.run, entry.seq) for entries in changed.values() for entry in entries)
        return made

    def _follow(self, tenant: str, entries: list[Entry], at: datetime, cursor: int) -> Checkpoint:
        kept = self.kept.setdefault(tenant, [])
        newest = kept[-1] if kept else None
        before = None
        if newest is not None and is_too_long(newest, entries):
            before = taken_in(self._journal.key, kept[newest.whole - 1 :], self._holds)
        made = following(self._journal.key, newest, entries, tenant=tenant, at=at, cursor=cursor, all_before=before)
        if before is not None:
            kept[:] = [msgspec.structs.replace(one, entries=None) for one in kept]
        kept.append(made)
        return made

    def some(self, tenant: str, after: int, limit: int) -> tuple[Checkpoint, ...]:
        """Checkpoints by number."""
        return tuple([one for one in self.kept.get(tenant, []) if one.number > after][: max(0, limit)])

    def covered(self, tenant: str, against: Checkpoint | None) -> Coverage:
        """What all of them say together."""
        stored = ((one.number, one) for one in self.kept.get(tenant, []))
        return cover(self._journal.key, tenant, stored, against)

    def _holds(self, entry: Entry) -> bool:
        rows = self._journal.rows(entry.run, entry.seq - 1, 1)
        if not rows or rows[0].seq != entry.seq:
            tombstone = self._journal.tombstones.get(entry.run)
            return tombstone is not None and tombstone.seq >= entry.seq
        return rows[0].mac.hex() == entry.mac
