"""A store moved into another one: what has to be true before, the copy, and the proof that it is whole."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from collegium.adapters.clock import SystemClock
from collegium.adapters.presence import FilePresence
from collegium.adapters.sqlite import store as sqlite
from collegium.adapters.sqlite.transfer import SqliteEnd
from collegium.adapters.sqlite.upgrade import SCHEMA as SQLITE_SCHEMA
from collegium.adapters.transfer import (
    BLOB_NAMES,
    CAME_FROM,
    CHECKPOINT_VALUES,
    CHECKPOINTS,
    COUNTED,
    FENCES,
    HEADS,
    MARK,
    RECORDS,
    TOMBSTONES,
    End,
    Filling,
    Moved,
    Progress,
    Table,
    check_blob,
    differing,
    mirror,
    require_whole,
    rows_of,
)
from collegium.config import Settings
from collegium.domain.errors import Conflict, StoreCorrupt, UsageError
from collegium.ports import Archive, Journal, Presence
from collegium.runtime.audit import Damage, verify_all
from collegium.wiring import chain_key
from collegium.wiring.encryption import sealer_of
from collegium.wiring.file_keys import key_as_is
from collegium.wiring.stores import is_postgres, sqlite_path

NOT_MOVED: Final = {
    "models": "local models: copy the folder, or let them be fetched again",
    "index.db": "search index: made again from the documents when a run needs it",
    "runs": "work folders: written again from the store, version by version",
    "cache.db": "replies of models that are kept to save calls: starts empty",
    "bus.db": "what waits for a worker: made again from the runs",
    "workers": "who works: of this machine alone",
    "logs": "messages: copy them if you want them",
}
"""What of the data folder a transfer leaves where it is, and what becomes of it."""
_WHOLE: Final = (HEADS, RECORDS, TOMBSTONES, CHECKPOINTS)


class Transferred(NamedTuple):
    """What came of a transfer, or would.

    Attributes:
        source: Where from, without a password.
        target: Where to.
        counts: Rows by kind, of the source.
        moved: What was written now; the rest was there.
        left: Workers of attempts that were open: whoever works on the target takes them for dead and goes on.
        damaged: The first thing that is not as it was written; None where all is.
        was_done: Whether it had been done before and both are still the same.
    """

    source: str
    target: str
    counts: dict[str, int]
    moved: Moved = Moved()
    left: tuple[str, ...] = ()
    damaged: Damage | None = None
    was_done: bool = False


async def transfer(settings: Settings, source: str, target: str, *, is_dry: bool, progress: Progress) -> Transferred:
    """Moves everything that is kept at ``source`` to ``target``, which is empty or was half filled from it before.

    The source is only read. Until all of it is there and was verified nobody can open the target. Again after an
    interruption it goes on.

    Raises:
        UsageError: a URL that names no store, the same store twice, a source or target with living workers, tables of
            another version, a target that holds something else.
        Conflict: the source was written to meanwhile.
        StoreError: one of them cannot be used.
    """
    async with AsyncExitStack() as stack:
        begin = await stack.enter_async_context(_source(settings, source))
        counts = {table.name: await begin.count(table) for table in COUNTED}
        if is_dry:
            await _check_target(settings, target)
            return Transferred(begin.place, place_of(target), counts)
        end = await stack.enter_async_context(_target(settings, target))
        if await _is_done(begin, end):
            return Transferred(begin.place, end.place, counts, was_done=True)
        await end.begin((await begin.meta())["store_id"], await _cursor(begin))
        moved = await mirror(begin, end, progress)
        left = await end.open_workers()
        for worker in left:
            await _leave_dead(settings, target, worker)
        damaged = await _verified(settings, target, begin, end, progress)
        if damaged is None:
            await end.finish(_whole(await begin.meta(), await end.meta()))
        return Transferred(begin.place, end.place, counts, moved, left, damaged)


def _whole(source: Mapping[str, str], target: Mapping[str, str]) -> dict[str, str]:
    """What the target says of itself: it is the same store, in a new epoch, so that it shares nothing in Redis."""
    return {
        "store_id": source["store_id"],
        "epoch": str(max(int(source["epoch"]), int(target["epoch"])) + 1),
        CAME_FROM: f"{_name(source)} {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
    }


def _name(meta: Mapping[str, str]) -> str:
    return f"{meta['store_id']}/{meta['epoch']}"


def place_of(url: str) -> str:
    """Where a store is, without a password. Raises ``UsageError``."""
    if not is_postgres(url):
        return str(sqlite_path(url))
    from collegium.adapters.postgres.connection import place_of as postgres_place

    return postgres_place(url)


@asynccontextmanager
async def _source(settings: Settings, url: str) -> AsyncIterator[End]:
    async with _end(settings, url, is_source=True) as end:
        meta = await end.meta()
        wanted = _schema(url)
        if meta.get("schema") != str(wanted):
            raise UsageError(
                f"{end.place} has tables of version {meta.get('schema')} and this collegium works on {wanted}: run "
                f"`collegium migrate --store {_shown(url)}` first",
                store=end.place,
            )
        require_whole(meta, end.place)
        await _require_at_rest(settings, url, end)
        if url in {shard.url for shard in settings.postgres.shards}:  # its workers show themselves in the catalogue
            async with _end(settings, settings.store, is_source=True) as catalogue:
                await _require_at_rest(settings, settings.store, catalogue)
        yield end


@asynccontextmanager
async def _target(settings: Settings, url: str) -> AsyncIterator[Filling]:
    await _make(settings, url)
    async with _end(settings, url, is_source=False) as end:
        await _require_at_rest(settings, url, end)
        yield end


async def _check_target(settings: Settings, url: str) -> None:
    """Raises what a transfer would raise, as far as it can be known without making anything."""
    if not is_postgres(url):
        path = sqlite_path(url)
        if not path.exists():
            return
        sqlite.version_of(path, key_as_is(settings, path))
    else:
        from collegium.adapters.postgres.upgrade import migrate

        plan = await migrate(url, entropy=os.urandom, is_dry=True)
        if plan.found == 0:
            return
    async with _end(settings, url, is_source=True) as end:
        await _require_at_rest(settings, url, end)
        if MARK not in await end.meta():
            await _require_empty(end)


@asynccontextmanager
async def _end(settings: Settings, url: str, *, is_source: bool) -> AsyncIterator[Filling]:
    end: Filling
    if is_postgres(url):
        from collegium.adapters.postgres.transfer import open_end

        end = await open_end(url, is_source=is_source)
    else:
        path = sqlite_path(url)
        end = SqliteEnd(path, key_as_is(settings, path), is_source=is_source)
    try:
        yield end
    finally:
        await end.aclose()


async def _make(settings: Settings, url: str) -> None:
    """Makes the tables of the target, where there are none."""
    if is_postgres(url):
        from collegium.adapters.postgres.store import open_store

        await (await open_store(url, may_upgrade=True, is_filling=True)).aclose()
    else:
        path = sqlite_path(url)
        await sqlite.open_store(path, key=key_as_is(settings, path), is_filling=True).aclose()


def _schema(url: str) -> int:
    if not is_postgres(url):
        return SQLITE_SCHEMA
    from collegium.adapters.postgres.upgrade import SCHEMA

    return SCHEMA


async def _is_done(source: End, target: Filling) -> bool:
    """Whether the transfer was ended before, and nothing has changed since. Raises ``UsageError`` for another store."""
    mine, theirs = await source.meta(), await target.meta()
    if MARK in theirs:
        if theirs[MARK] != mine["store_id"]:
            raise UsageError(
                f"{target.place} is half filled from another store: give an empty one, or end that transfer first",
                store=target.place,
            )
        return False
    if theirs.get(CAME_FROM, "").partition(" ")[0] != _name(mine):
        if _name(mine) == _name(theirs):
            raise UsageError(f"{source.place} and {target.place} are the same store", store=target.place)
        await _require_empty(target)
        return False
    for table in _WHOLE:
        async for _ in differing(table, source, target):
            when = theirs[CAME_FROM].partition(" ")[2]
            raise UsageError(
                f"{source.place} was moved to {target.place} at {when}, and one of them was worked on since: give an "
                "empty store",
                store=target.place,
            )
    return True


async def _require_empty(target: End) -> None:
    for table in COUNTED:
        if number := await target.count(table):
            raise UsageError(
                f"{target.place} holds {number:,} {table.name} already: a transfer needs an empty store",
                store=target.place,
            )


async def _require_at_rest(settings: Settings, url: str, end: End) -> None:
    """Raises ``UsageError`` for a store that workers live on."""
    folders = () if is_postgres(url) else _folders(settings, url)
    living = await end.living(folders, lease_s=settings.worker.lease_s, clock=SystemClock())
    if living:
        raise UsageError(
            f"{end.place} is being worked on by {', '.join(sorted(living))}: end `serve`, `worker` and `run` there "
            "first, `collegium workers ls` shows where they are",
            store=end.place,
            workers=sorted(living),
        )


def _folders(settings: Settings, url: str) -> tuple[Path, ...]:
    """Where workers on a store file show that they live: beside the file, or in the data folder of the settings."""
    return tuple(dict.fromkeys((settings.data_dir / "workers", sqlite_path(url).absolute().parent / "workers")))


async def _leave_dead(settings: Settings, url: str, worker: str) -> None:
    """Lets a worker that the target has never seen be found dead there: its open attempts lapse at the first look."""
    presences: list[Presence] = []
    if is_postgres(url):
        from collegium.adapters.postgres.presence import PostgresPresence

        presences.append(PostgresPresence(url, lease_s=settings.worker.lease_s))
    else:
        presences += [FilePresence(folder, lease_s=settings.worker.lease_s) for folder in _folders(settings, url)]
    for presence in presences:
        await presence.announce(worker)
        await presence.abandon(worker)


async def _cursor(source: End) -> int:
    """How far the source's checkpoints have looked, in its own places."""
    found = 0
    async for _, _, value in rows_of(source, CHECKPOINT_VALUES):
        try:
            found = max(found, int(msgspec.json.decode(value)["cursor"]))
        except (msgspec.DecodeError, KeyError, TypeError, ValueError):
            continue  # damaged: it is found when all is verified
    return found


async def _verified(settings: Settings, url: str, source: End, target: Filling, progress: Progress) -> Damage | None:
    """The first thing in the target that is not as it was written. Raises ``Conflict`` where the source has moved."""
    for table in (*_WHOLE, FENCES, BLOB_NAMES):
        await _require_same(table, source, target)
    async with _opened(settings, url) as (journal, archive):
        tenants = await _tenants(target)
        for number, tenant in enumerate(tenants):
            progress("verified tenants", number, len(tenants))
            found = await verify_all(journal, archive, tenant)
            if found.damaged:
                return found.damaged[0]
    total, number = await target.count(BLOB_NAMES), 0
    async for name in rows_of(target, BLOB_NAMES):
        row = await target.blob(name)
        try:
            check_blob(row or (*name, b"", 0))
        except StoreCorrupt as error:
            return Damage(why=error.message)
        number += 1
        if number % 500 == 0:
            progress("verified blobs", number, total)
    return None


async def _require_same(table: Table, source: End, target: End) -> None:
    async for mine, theirs in differing(table, source, target):
        row = mine or theirs or ()
        raise Conflict(
            f"{source.place} was written to while it was copied ({table.name}: {', '.join(map(str, table.key(row)))}): "
            "end whatever works there, then run the same again; it goes on where it was",
            store=source.place,
        )


async def _tenants(store: End) -> list[str]:
    tenants: set[str] = set()
    for table in (HEADS, TOMBSTONES, CHECKPOINT_VALUES):
        place = table.columns.index("tenant")
        tenants.update([str(row[place]) async for row in rows_of(store, table)])
    return sorted(tenants)


@asynccontextmanager
async def _opened(settings: Settings, url: str) -> AsyncIterator[tuple[Journal, Archive]]:
    """Journal and archive of the target, as those who will work on it open them."""
    key = chain_key(settings)
    with sealer_of(settings, url=url) as sealer:
        if is_postgres(url):
            from collegium.adapters.postgres.store import open_store

            store = await open_store(url, chain_key=key, is_filling=True, sealer=sealer)
            try:
                yield store.journal, store.archive
            finally:
                await store.aclose()
        else:
            path = sqlite_path(url)
            file = sqlite.open_store(path, chain_key=key, is_filling=True, sealer=sealer, key=key_as_is(settings, path))
            try:
                yield file.journal, file.archive
            finally:
                await file.aclose()


def _shown(url: str) -> str:
    return url if not is_postgres(url) else "postgresql://..."
