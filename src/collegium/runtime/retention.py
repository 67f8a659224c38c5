"""Retention: finished runs are removed, oldest first, and leave what proves that nobody else removed them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

import msgspec

from collegium.domain.errors import Conflict
from collegium.domain.head import FINISHED, Head, HeadQuery, RunStatus
from collegium.domain.record import Record
from collegium.domain.tombstone import Tombstone
from collegium.ports import Clock, Workspaces
from collegium.runtime.fork import FORK, PRUNING, ForkRecord, forks_of
from collegium.runtime.heads import heads_of
from collegium.runtime.kept import Kept, archive_of

BLOB_AGE_S: Final = 3_600.0
"""Blobs younger than this are left alone: somebody may be about to name them."""
ALL: Final = 2**62
_PAGE = 200


class Retained(msgspec.Struct, frozen=True, kw_only=True):
    """How much is kept; a run goes when any of these says so.

    Attributes:
        older_than_s: Runs that finished longer ago.
        keep: The newest so many finished runs stay, older ones go.
        keep_bytes: The newest runs stay whose bodies together take so many bytes.
    """

    older_than_s: float | None = None
    keep: int | None = None
    keep_bytes: int | None = None


class Doomed(msgspec.Struct, frozen=True, kw_only=True):
    """A run that goes: its last ``(seq, mac)``, what it takes, and how much of it stays because forks need it."""

    run: str
    seq: int
    mac: str
    status: RunStatus
    submitted_at: datetime
    finished_at: datetime
    size_bytes: int
    kept: int


class Pruned(msgspec.Struct, frozen=True, kw_only=True):
    """What was removed, or would be: runs with the bytes of their bodies, blobs, work folders."""

    runs: tuple[Doomed, ...]
    blobs: int = 0
    folders: int = 0
    skipped: tuple[str, ...] = ()
    """Runs that moved meanwhile and stay for this time."""


class Retention:
    """Prunes the runs of one tenant."""

    def __init__(self, stores: Kept, workspaces: Workspaces, *, clock: Clock) -> None:
        self._journal = stores.journal
        self._archive = archive_of(stores)
        self._records = stores.records
        self._workspaces = workspaces
        self._clock = clock

    async def plan(self, tenant: str, retained: Retained, *, what: Literal["run", "bodies"] = "run") -> Pruned:
        """What ``prune`` would remove now, oldest first."""
        shared = await self._shared(tenant)
        now = self._clock.now()
        doomed: list[Doomed] = []
        count = size = 0
        async for one in self._finished(tenant, shared, is_sized=retained.keep_bytes is not None):
            count, size = count + 1, size + one.size_bytes
            is_old = retained.older_than_s is not None and (
                now - one.finished_at >= timedelta(seconds=retained.older_than_s)
            )
            is_surplus = retained.keep is not None and count > retained.keep
            is_too_much = retained.keep_bytes is not None and size > retained.keep_bytes
            if (is_old or is_surplus or is_too_much) and await self._is_anything_left(one, what):
                doomed.append(one)
        sizes = [await self._size(one.run, one.kept) for one in doomed]
        runs = [msgspec.structs.replace(one, size_bytes=s) for one, s in zip(doomed, sizes, strict=True)]
        return Pruned(runs=tuple(reversed(runs)))

    async def prune(self, tenant: str, retained: Retained, *, what: Literal["run", "bodies"] = "run") -> Pruned:
        """Removes whole runs or what they said; a crash at any point leaves each run whole or under its tombstone.

        Repeating it ends what a crash has left.
        """
        gone: list[Doomed] = []
        skipped: list[str] = []
        planned = (await self.plan(tenant, retained, what=what)).runs
        # What goes was signed as it was: a run that is gone with its tombstone as well is missed.
        if planned:
            await self._archive.checkpoint(at=self._clock.now())
        for one in planned:
            try:
                gone.append(await self._prune(tenant, one, what))
            except Conflict:
                skipped.append(one.run)
        folders = await self._clear(tenant)
        return Pruned(runs=tuple(gone), blobs=await self.collect(), folders=folders, skipped=tuple(skipped))

    async def remove(self, tenant: str, runs: Collection[str]) -> Pruned:
        """Removes these runs of ``tenant``, as far as no other run was forked from them; those that go on stay.

        Repeating it ends what a crash has left.
        """
        await self._archive.checkpoint(at=self._clock.now())
        gone: dict[str, Doomed] = {}
        skipped: set[str] = set()
        while True:  # a run whose forks are among them can go once these have gone
            progress = False
            shared = await self._shared(tenant)
            for run in runs:
                head = await self._journal.head(run)
                if head is None or head.tenant != tenant or head.status not in FINISHED:
                    continue
                one = await self._look(head, shared.get(run, 0), is_sized=True)
                if one is None or not await self._is_anything_left(one, "run"):
                    continue
                try:
                    gone[run] = await self._prune(tenant, one, "run")
                    progress = True
                except Conflict:
                    skipped.add(run)
            if not progress:
                break
        folders = await self._clear(tenant)
        moved = tuple(sorted(skipped - gone.keys()))
        return Pruned(runs=tuple(gone.values()), blobs=await self.collect(), folders=folders, skipped=moved)

    async def collect(self) -> int:
        """Removes contents that nobody names and that nobody may be about to name; how many."""
        return await self._archive.collect(before=self._clock.now() - timedelta(seconds=BLOB_AGE_S))

    def due_at(self) -> datetime:
        """When what is put now can be collected."""
        return self._clock.now() + timedelta(seconds=BLOB_AGE_S)

    async def _prune(self, tenant: str, one: Doomed, what: Literal["run", "bodies"]) -> Doomed:
        # Marked first, then the forks are looked at again: who forks meanwhile writes its record first and then looks
        # for the mark, so that one of the two sees the other.
        await self._records.put(Record(kind=PRUNING, tenant=tenant, key=one.run, value={}))
        try:
            one = msgspec.structs.replace(one, kept=min(one.seq, (await self._shared(tenant)).get(one.run, 0)))
            tombstone = Tombstone(
                run=one.run,
                tenant=tenant,
                seq=one.seq,
                mac=one.mac,
                status=one.status,
                what=what,
                kept=one.kept,
                submitted_at=one.submitted_at,
                finished_at=one.finished_at,
                pruned_at=self._clock.now(),
            )
            await self._archive.prune(tombstone)
            if not tombstone.kept:  # it needs its own parents no more
                await self._records.delete(FORK, tenant, one.run)
        finally:
            await self._records.delete(PRUNING, tenant, one.run)
        return one

    async def _clear(self, tenant: str) -> int:
        """Removes the work folders of runs that are gone, those that a crash has left as well."""
        removed, after = 0, ""
        while page := await self._archive.tombstones(tenant, after, _PAGE):
            for tombstone in page:
                removed += await self._workspaces.remove(tenant, tombstone.run)
            after = page[-1].run
        return removed

    async def _shared(self, tenant: str) -> Mapping[str, int]:
        """How many events of each run its living forks need; records of forks that never began are removed."""
        shared: dict[str, int] = {}
        for fork, found in (await forks_of(self._records, tenant)).items():
            needed = await self._needed(fork, found)
            if needed == 0:
                await self._records.delete(FORK, tenant, fork)
            shared[found.parent] = max(shared.get(found.parent, 0), needed)
        return shared

    async def _needed(self, fork: str, record: ForkRecord) -> int:
        """How many events of its parent a fork needs; all while it goes on, because it asks what was written."""
        head = await self._journal.head(fork)
        if head is None:
            is_being_made = self._clock.now() - record.made_at < timedelta(seconds=BLOB_AGE_S)
            return ALL if is_being_made else 0
        if head.status not in FINISHED:
            return ALL
        tombstone = await self._archive.tombstone(fork)
        return record.at if tombstone is None or tombstone.kept > 0 else 0

    async def _finished(self, tenant: str, shared: Mapping[str, int], *, is_sized: bool) -> AsyncIterator[Doomed]:
        """Finished runs, the newest first."""
        query = HeadQuery(tenant=tenant, statuses=FINISHED, limit=_PAGE)
        async for head in heads_of(self._journal, query):
            one = await self._look(head, shared.get(head.run, 0), is_sized=is_sized)
            if one is not None:
                yield one

    async def _look(self, head: Head, kept: int, *, is_sized: bool) -> Doomed | None:
        known = await self._archive.tombstone(head.run)
        ends = (*await self._archive.links(head.run, 0, 1), *await self._archive.links(head.run, head.seq - 1, 1))
        if known is None and not ends:
            return None
        return Doomed(
            run=head.run,
            seq=head.seq,
            mac=head.mac,
            status=head.status,
            submitted_at=known.submitted_at if known is not None else _from_us(ends[0].at_us),
            finished_at=known.finished_at if known is not None else _from_us(ends[-1].at_us),
            size_bytes=await self._size(head.run, kept) if is_sized else 0,
            kept=min(kept, head.seq),
        )

    async def _size(self, run: str, kept: int) -> int:
        """Bytes of the bodies behind the first ``kept``."""
        size, after = 0, kept
        while links := await self._archive.links(run, after):
            size += sum(len(link.body or b"") for link in links)
            after = links[-1].seq
        return size

    async def _is_anything_left(self, one: Doomed, what: Literal["run", "bodies"]) -> bool:
        """Whether pruning would remove something of a run, part of which may stay or have gone before."""
        if one.kept >= one.seq:
            return False
        known = await self._archive.tombstone(one.run)
        if known is None or known.seq != one.seq or known.kept > one.kept:
            return True
        return what == "run" and known.what == "bodies"


def _from_us(us: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)
