"""One open store to a store over shards, as far as settings name any."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final, Protocol

from collegium.adapters.sharded.archive import ShardedArchive
from collegium.adapters.sharded.blobs import GuardedBlobs
from collegium.adapters.sharded.journal import ShardedJournal
from collegium.adapters.sharded.placement import Placement
from collegium.adapters.sharded.replica import ReplicatedJournal
from collegium.adapters.sharded.shard import CATALOGUE, OpenShard, Shard, ShardArchive
from collegium.adapters.sharded.shards import Shards, shard_by_id
from collegium.config import Settings, ShardSetting, shown_url
from collegium.domain.errors import Conflict, StoreReadOnly, StoreUnavailable, UsageError
from collegium.domain.head import HeadQuery
from collegium.domain.record import Record
from collegium.ports import Archive, Blobs, Clock, Journal, Records
from collegium.runtime.stores import Part

KIND: Final = "shard"
TENANT: Final = "~shards"
"""Records of the catalogue: which store is which shard, for ever."""
_MAX_SHARDS: Final = 256


class Store(Protocol):
    """An open store, whichever database it is in."""

    @property
    def meta(self) -> tuple[str, int]:
        """Its own id, for ever, and its epoch."""
        ...

    @property
    def journal(self) -> Journal:
        """Runs."""
        ...

    @property
    def archive(self) -> ShardArchive:
        """Runs as they are stored."""
        ...

    @property
    def records(self) -> Records:
        """Records."""
        ...

    @property
    def blobs(self) -> Blobs:
        """Blobs."""
        ...

    @property
    def commits(self) -> tuple[int, int]:
        """Transactions of this process that were committed, and those that failed."""
        ...

    async def aclose(self) -> None:
        """Closes it."""


@dataclass(frozen=True, kw_only=True)
class Spread:
    """What a Collegium uses of a store and its shards."""

    journal: Journal
    blobs: Blobs
    archive: Archive
    commits: Callable[[], tuple[int, int]]
    place: Callable[[str], int] = lambda digits: CATALOGUE
    parts: Sequence[Part] = ()


OpenStore = Callable[[str], Awaitable[Store]]
"""Opens the store at a URL. Raises ``UsageError`` and ``StoreError``."""


async def spread(
    catalogue: Store, settings: Settings, *, open_store: OpenStore, clock: Clock, stack: AsyncExitStack
) -> Spread:
    """What is used of ``catalogue`` and of the shards that ``settings`` name; ``stack`` closes the shards.

    A shard that is away is opened when it is back.

    Raises:
        UsageError: a shard is missing, or is another store than it was.
        StoreError: one cannot be opened, for another reason than that it is away.
    """
    wanted = settings.postgres
    registry = Registry(catalogue)
    await registry.check_all_named([number_of(one) for one in wanted.shards])
    journal = _with_replica(catalogue, wanted.replica, clock, stack)
    if not wanted.shards:
        return Spread(
            journal=journal, blobs=catalogue.blobs, archive=catalogue.archive, commits=lambda: catalogue.commits
        )
    opening = _Opening(registry, open_store, clock)
    here = OpenShard(journal=journal, archive=catalogue.archive, commits=lambda: catalogue.commits, aclose=_nothing)
    others = await asyncio.gather(*(opening.shard(one) for one in wanted.shards), return_exceptions=True)
    opened = [one for one in others if isinstance(one, Shard)]
    first = Shard(CATALOGUE, place=shown_url(settings.store), clock=clock, weight=wanted.weight, opened=here)
    shards = Shards([first, *opened])
    stack.push_async_callback(shards.aclose)
    for one in others:
        if isinstance(one, BaseException):
            raise one
    blobs = GuardedBlobs(catalogue.blobs)
    stack.push_async_callback(blobs.aclose)
    sharded = ShardedJournal(shards, blobs)
    stack.push_async_callback(sharded.aclose)
    return Spread(
        journal=sharded,
        blobs=blobs,
        archive=ShardedArchive(shards),
        commits=shards.commits,
        place=Placement({n: shard.weight for n, shard in shards.all.items()}, is_away=shards.is_away),
        parts=tuple(shards.all.values()),
    )


class Registry:
    """Which store is which shard, as the catalogue has it: a number never changes its store."""

    def __init__(self, catalogue: Store) -> None:
        self._records = catalogue.records
        self._catalogue_id = catalogue.meta[0]
        self._turn = asyncio.Lock()

    async def check_all_named(self, numbers: Sequence[int]) -> None:
        """Raises ``UsageError`` where the settings leave out a shard: its runs would seem to be gone."""
        for record in await self._known():
            if int(record.key) not in numbers:
                raise UsageError(
                    f"shard {record.key} ({record.value['place']}) holds runs of this store, and the settings do not "
                    "name it: put it into postgres.shards; weight 0 gives it no new runs",
                    shard=int(record.key),
                )

    async def admit(self, number: int, store: Store, place: str) -> None:
        """Takes note of a new shard. Raises ``UsageError`` for a store that is not what the number stands for."""
        async with self._turn:
            is_new = self._check(number, store.meta[0], place, await self._known())
            if not is_new:
                return
            newest = await store.journal.heads(HeadQuery(limit=1))
            if newest and shard_by_id(newest[0].run) != number:
                raise UsageError(
                    f"{place} cannot become shard {number}: it holds runs already ({newest[0].run}), and a shard "
                    "begins empty",
                    shard=number,
                )
            value = {"store_id": store.meta[0], "place": place}
            try:
                await self._records.put(Record(kind=KIND, tenant=TENANT, key=str(number), value=value), expected=0)
            except Conflict:  # another process was quicker
                self._check(number, store.meta[0], place, await self._known())
            except StoreReadOnly:
                pass  # a role that sees one tenant alone; others have it checked

    async def _known(self) -> Sequence[Record]:
        return await self._records.find(KIND, TENANT, limit=_MAX_SHARDS)

    def _check(self, number: int, store_id: str, place: str, known: Sequence[Record]) -> bool:
        """Whether the shard is new."""
        if store_id == self._catalogue_id:
            raise UsageError(
                f"shard {number} ({place}) is the store itself: give it a database of its own", shard=number
            )
        mine = next((record for record in known if record.value["store_id"] == store_id), None)
        if mine is not None and mine.key != str(number):
            raise UsageError(
                f"{place} is shard {mine.key}, and postgres.shards gives it the number {number}: its number is in the "
                "ids of its runs and stays",
                shard=number,
            )
        other = next((record for record in known if record.key == str(number)), None)
        if mine is None and other is not None:
            raise UsageError(
                f"shard {number} is another database ({other.value['place']}) than {place}: put it back, and give the "
                "new one a number of its own",
                shard=number,
            )
        return mine is None


@dataclass(frozen=True)
class _Opening:
    registry: Registry
    open_store: OpenStore
    clock: Clock

    async def shard(self, wanted: ShardSetting) -> Shard:
        """The shard, open or away."""
        number, place = number_of(wanted), shown_url(wanted.url)

        async def reopen() -> OpenShard:
            try:
                return await self._open(wanted)
            except UsageError as error:  # too late to refuse the settings: it stays away, and this is why
                raise StoreUnavailable(error.message, **error.fields) from error

        try:
            opened = await self._open(wanted)
        except StoreUnavailable as error:
            shard = Shard(number, place=place, clock=self.clock, weight=wanted.weight, reopen=reopen)
            shard.missed(error.message)
            return shard
        return Shard(number, place=place, clock=self.clock, weight=wanted.weight, opened=opened)

    async def _open(self, wanted: ShardSetting) -> OpenShard:
        async with AsyncExitStack() as stack:
            store = await self.open_store(wanted.url)
            stack.push_async_callback(store.aclose)
            await self.registry.admit(number_of(wanted), store, shown_url(wanted.url))
            journal = _with_replica(store, wanted.replica, self.clock, stack)
            return OpenShard(
                journal=journal, archive=store.archive, commits=lambda: store.commits, aclose=stack.pop_all().aclose
            )


def number_of(shard: ShardSetting) -> int:
    """Its number. Raises ``UsageError`` where settings that were put together by hand give none."""
    if shard.number is None:
        raise UsageError(f"the shard {shown_url(shard.url)} has no number")
    return shard.number


def _with_replica(store: Store, url: str | None, clock: Clock, stack: AsyncExitStack) -> Journal:
    if url is None:
        return store.journal
    from collegium.adapters.postgres.replica import PostgresReplica

    replica = PostgresReplica(url, store_id=store.meta[0])
    stack.push_async_callback(replica.aclose)
    return ReplicatedJournal(store.journal, replica, clock=clock)


async def _nothing() -> None:
    """Leaves the catalogue open: whoever has opened it closes it."""
