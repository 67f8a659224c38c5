"""Archives over several stores: each run's is where the run is, and each shard signs a chain of checkpoints of its own.

A checkpoint says where the runs of one store stand, in that store's own order of events, so its chain belongs to that
store. What is asked of all of them is put together here; where a chain is verified or exported, each shard is a part
of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import TypeVar

import msgspec

from collegium.adapters.blob_rules import Names
from collegium.adapters.sharded.shard import CATALOGUE, Shard, ShardArchive
from collegium.adapters.sharded.shards import Shards
from collegium.domain.chain import Link
from collegium.domain.checkpoint import Checkpoint, Coverage, Listed
from collegium.domain.errors import StoreError, StoreUnavailable
from collegium.domain.tombstone import Tombstone

T = TypeVar("T")


class ShardedArchive:
    """Implements ``Archive`` over shards."""

    def __init__(self, shards: Shards) -> None:
        self._shards = shards

    async def links(self, run: str, after: int = 0, limit: int = 1_000) -> tuple[Link, ...]:
        """Events as stored, in order."""
        shard = self._shards.of(run)
        return await _told(shard, shard.archive.links(run, after, limit))

    async def verify(self, run: str) -> int | None:
        """The first seq that is not as it was written (0: the tombstone), or None."""
        shard = self._shards.of(run)
        return await _told(shard, shard.archive.verify(run))

    async def prune(self, tombstone: Tombstone) -> Tombstone:
        """Removes what ``tombstone`` says and leaves it, signed."""
        shard = self._shards.of(tombstone.run)
        return await _told(shard, shard.archive.prune(tombstone))

    async def tombstones(self, tenant: str, after: str = "", limit: int = 1_000) -> tuple[Tombstone, ...]:
        """What is left of pruned runs in all shards, by run."""
        found = await self._of_all(lambda archive: archive.tombstones(tenant, after, limit))
        buried = sorted((one for page in found.values() for one in page), key=lambda one: one.run)
        return tuple(buried[: max(0, limit)])

    async def tombstone(self, run: str) -> Tombstone | None:
        """What is left of ``run`` if it was pruned."""
        shard = self._shards.of(run)
        return await _told(shard, shard.archive.tombstone(run))

    async def collect(self, *, before: datetime) -> int:
        """Deletes old blobs that no event of any shard and no record names.

        Bodies of events lie in the store of their run, all else in the catalogue. What other shards name is asked of
        them first, and what they have come to name meanwhile again right before the deletion. Nothing is deleted from
        the catalogue while a shard is away. Raises ``StoreUnavailable``.
        """
        others = [shard for number, shard in self._shards.all.items() if number != CATALOGUE]
        count = sum([await _told(shard, shard.archive.collect(before=before)) for shard in others])
        seen: dict[int, str] = {}

        async def elsewhere() -> Names:
            names: Names = set()
            for shard in others:
                more, seen[shard.number] = await _told(shard, shard.archive.names(seen.get(shard.number, "")))
                names |= more
            return names

        return count + await self._shards.catalogue.archive.collect_unless(elsewhere, before=before)

    async def checkpoint(self, *, at: datetime, pause_s: float = 0.0) -> tuple[Checkpoint, ...]:
        """Signs in every shard where the runs of each tenant stand that changed; one commit in each."""
        made = await self._of_all(lambda archive: archive.checkpoint(at=at, pause_s=pause_s))
        return tuple(one for page in made.values() for one in page)

    async def checkpoints(self, tenant: str, after: int = 0, limit: int = 1_000) -> tuple[Checkpoint, ...]:
        """The checkpoints of all shards by number, with ``number > after``; every shard counts from 1.

        A page never ends inside a number, so that it may be longer than ``limit`` by the other shards' of its last one.
        """
        pages = await self._of_all(lambda archive: archive.checkpoints(tenant, after, limit))
        found = sorted((one for page in pages.values() for one in page), key=lambda one: one.number)
        if limit <= 0 or len(found) <= limit:
            return tuple(found[: max(0, limit)])
        return tuple(one for one in found if one.number <= found[limit - 1].number)

    async def covered(self, tenant: str, against: Checkpoint | None = None) -> Coverage:
        """What the checkpoints of all shards say together, and whether one of the chains goes on from ``against``."""
        found = await self._of_all(lambda archive: archive.covered(tenant, against))
        listed: dict[str, tuple[Listed, ...]] = {}
        for coverage in found.values():
            for run, entries in coverage.listed.items():
                listed[run] = tuple(dict.fromkeys((*listed.get(run, ()), *entries)))
        newest = [one.newest for one in found.values() if one.newest is not None]
        flaws = (
            msgspec.structs.replace(one.flaw, why=f"{one.flaw.why} (shard {number})")
            for number, one in found.items()
            if one.flaw is not None
        )
        return Coverage(
            newest=max(newest, key=lambda one: one.at, default=None),
            listed=listed,
            flaw=next(flaws, None),
            against=_why_not(found),
        )

    async def _of_all(self, ask: Callable[[ShardArchive], Awaitable[T]]) -> dict[int, T]:
        """What every shard answers. Raises the worst error of any, once all have answered."""

        async def one(shard: Shard) -> T:
            if shard.is_away:
                raise shard.unavailable()
            return await _told(shard, ask(shard.archive))

        asked = self._shards.all
        answers = await asyncio.gather(*(one(shard) for shard in asked.values()), return_exceptions=True)
        errors = [answer for answer in answers if isinstance(answer, BaseException)]
        if errors:  # a shard that is away is looked at again; anything else has to be told first
            raise next((error for error in errors if not isinstance(error, StoreUnavailable)), errors[0])
        return {n: answer for n, answer in zip(asked, answers, strict=True) if not isinstance(answer, BaseException)}


def _why_not(found: Mapping[int, Coverage]) -> str | None:
    """Why no chain goes on from the checkpoint that was kept elsewhere: what the longest of them says."""
    if any(one.against is None for one in found.values()):
        return None
    longest = max(found.values(), key=lambda one: 0 if one.newest is None else one.newest.number)
    return longest.against


async def _told(shard: Shard, answer: Awaitable[T]) -> T:
    """The answer of a shard; its errors say which one it was."""
    try:
        return await answer
    except StoreError as error:
        raise shard.told(error) from error
