"""Settings to open stores: SQLite files of this machine or PostgreSQL, either of them with or without Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, NamedTuple

from collegium.adapters.bus_rules import DEFAULT_RULES, BusRules
from collegium.adapters.directory_files import FileDirectory
from collegium.adapters.encryption.plain import PLAIN
from collegium.adapters.memory.bus import MemoryBus
from collegium.adapters.memory.quota import MemoryQuota
from collegium.adapters.presence import FilePresence
from collegium.adapters.record_directory import RecordDirectory
from collegium.adapters.rows import Entropy
from collegium.adapters.sqlite.bus import SqliteBus
from collegium.adapters.sqlite.cache import SqliteCache
from collegium.adapters.stand_in_bus import StandInBus
from collegium.app import Scope, Stores
from collegium.config import Settings, shown_url
from collegium.domain.errors import MissingExtra, StoreError
from collegium.ports import Bus, Cache, Clock, Directory, Quota, Sealer
from collegium.wiring.encryption import check_plain, sealer_of
from collegium.wiring.file_keys import key_for_scratch, key_for_store
from collegium.wiring.shards import Spread, Store, spread
from collegium.wiring.urls import is_postgres, sqlite_path

__all__ = ["Opening", "Shared", "bus_rules", "is_postgres", "open_stores", "sqlite_path"]

if TYPE_CHECKING:
    from collegium.adapters.postgres.store import PostgresStore
    from collegium.adapters.sqlite.store import SqliteStore


@asynccontextmanager
async def open_stores(
    settings: Settings, scope: Scope, *, clock: Clock, chain_key: bytes, entropy: Entropy
) -> AsyncIterator[Stores]:
    """The stores that ``settings`` name, open. Raises ``UsageError`` and ``StoreError``."""
    async with AsyncExitStack() as stack:
        sealer = stack.enter_context(sealer_of(settings, entropy=entropy))
        opening = Opening(settings, scope, clock, chain_key, entropy, stack, sealer)
        stores = await (_postgres(opening) if is_postgres(settings.store) else _sqlite(opening))
        if not sealer.is_on:
            await check_plain(stores.records, shown_url(settings.store))
        yield stores


class Opening(NamedTuple):
    """What stores are opened with; ``stack`` closes them, the newest first."""

    settings: Settings
    scope: Scope
    clock: Clock
    chain_key: bytes
    entropy: Entropy
    stack: AsyncExitStack
    sealer: Sealer = PLAIN


class Shared(NamedTuple):
    """What processes share beside the store."""

    bus: Bus
    quota: Quota
    directory: Directory | None = None
    cache: Cache | None = None


async def _sqlite(opening: Opening) -> Stores:
    settings, clock = opening.settings, opening.clock
    store = _open_sqlite(opening, settings.store)
    opening.stack.push_async_callback(store.aclose)
    held = await _spread(opening, store)
    shared = _shared(opening, store.meta, is_local=True)
    return Stores(
        journal=held.journal,
        records=store.records,
        blobs=held.blobs,
        archive=held.archive,
        parts=held.parts,
        place=held.place,
        presence=FilePresence(settings.data_dir / "workers", clock=clock, lease_s=settings.worker.lease_s),
        bus=shared.bus,
        quota=shared.quota,
        cache=_cache(opening, shared),
        directory=shared.directory or FileDirectory(settings.data_dir / "workers", clock),
        commits=held.commits,
        version=(lambda: None) if held.parts else store.journal.version,
    )


async def _postgres(opening: Opening) -> Stores:
    settings, clock = opening.settings, opening.clock
    store = await _open_postgres(opening, settings.store)
    opening.stack.push_async_callback(store.aclose)
    held = await _spread(opening, store)
    from collegium.adapters.postgres.presence import PostgresPresence

    presence = PostgresPresence(settings.store, clock=clock, lease_s=settings.worker.lease_s)
    opening.stack.push_async_callback(presence.aclose)
    shared = _shared(opening, store.meta, is_local=False)
    return Stores(
        journal=held.journal,
        records=store.records,
        blobs=held.blobs,
        archive=held.archive,
        parts=held.parts,
        place=held.place,
        presence=presence,
        bus=shared.bus,
        quota=shared.quota,
        cache=_cache(opening, shared),
        directory=shared.directory or RecordDirectory(store.records, clock),
        commits=held.commits,
        # Several stores have several moments, and a replica another one than the store.
        moment=None if held.parts or settings.postgres.replica else store.journal.moment,
    )


async def _open_postgres(opening: Opening, url: str) -> PostgresStore:
    if find_spec("psycopg") is None:
        raise MissingExtra("a PostgreSQL store needs the extra [postgres]: pip install 'collegium[postgres]'")
    from collegium.adapters.postgres.store import open_store

    wanted = opening.settings.postgres
    return await open_store(
        url,
        clock=opening.clock,
        chain_key=opening.chain_key,
        entropy=opening.entropy,
        patience_s=wanted.patience_s,
        pool=wanted.pool,
        may_upgrade=wanted.migrate == "start",
        sealer=opening.sealer,
    )


def _open_sqlite(opening: Opening, url: str) -> SqliteStore:
    from collegium.adapters.sqlite.store import open_store

    path = sqlite_path(url)
    return open_store(
        path,
        clock=opening.clock,
        chain_key=opening.chain_key,
        entropy=opening.entropy,
        sealer=opening.sealer,
        key=key_for_store(opening.settings, path),
    )


def _cache(opening: Opening, shared: Shared) -> Cache | None:
    """The cache of what models answered, sealed as everything else; None for one that is as it ever was."""
    if not opening.sealer.is_on or not opening.settings.models.cache:
        return shared.cache
    from collegium.adapters.encryption.cache import SealedCache

    return SealedCache(shared.cache or file_cache(opening.settings, opening.clock), opening.sealer)


def file_cache(settings: Settings, clock: Clock) -> Cache:
    """The cache in the data folder. Raises ``StoreError``."""
    path = settings.data_dir / "cache.db"
    return SqliteCache(path, clock, key=key_for_scratch(settings, path))


async def _spread(opening: Opening, catalogue: Store) -> Spread:
    """What is used of the store and of its shards, each a database of its own, or a file to try it out."""

    async def open_one(url: str) -> Store:
        if is_postgres(url):
            return await _open_postgres(opening, url)
        return _open_sqlite(opening, url)

    return await spread(catalogue, opening.settings, open_store=open_one, clock=opening.clock, stack=opening.stack)


def bus_rules(settings: Settings) -> BusRules:
    """The rules of the bus. A worker that died between claim and start hides its messages as long as its tasks."""
    wanted = settings.bus
    return DEFAULT_RULES._replace(
        hide_s=settings.worker.lease_s,
        aging_s=wanted.aging_s,
        keep=wanted.keep,
        keep_s=wanted.keep_s,
        weights=wanted.weights,
        max_deliveries=wanted.max_deliveries,
        max_bytes=wanted.max_bytes,
        max_waiting=wanted.max_waiting,
    )


def _shared(opening: Opening, store: tuple[str, int], *, is_local: bool) -> Shared:
    """What processes share: through Redis where there is one, else as far as this machine goes.

    Args:
        opening: The settings and what closes things.
        store: Id and epoch of the store: one that was restored from a backup shares nothing with what it was.
        is_local: Whether all processes of the store are on this machine.
    """
    if opening.settings.redis is not None:
        return _redis(opening, opening.settings.redis, store)
    # Hosts without Redis find what is due by the heads, once a second.
    bus = _local_bus(opening) if is_local else MemoryBus(opening.clock, bus_rules(opening.settings))
    return Shared(bus, MemoryQuota(opening.clock))


def _redis(opening: Opening, url: str, store: tuple[str, int]) -> Shared:
    if find_spec("redis") is None:
        raise MissingExtra("Redis needs the extra [redis]: pip install 'collegium[redis]'")
    from collegium.adapters.redis.bus import RedisBus
    from collegium.adapters.redis.cache import RedisCache
    from collegium.adapters.redis.connection import RedisConnection
    from collegium.adapters.redis.directory import RedisDirectory
    from collegium.adapters.redis.quota import RedisQuota

    connection = RedisConnection(url)
    opening.stack.push_async_callback(connection.aclose)
    name, epoch = store
    rules = bus_rules(opening.settings)
    bus = RedisBus(connection, opening.clock, prefix=f"clg:{name}:{epoch}:", rules=rules)
    opening.stack.push_async_callback(bus.aclose)
    local = MemoryBus(opening.clock, rules)
    return Shared(
        # A process that works on its own runs only must not find those of others.
        local if opening.scope == "own" else StandInBus(bus, local),
        RedisQuota(connection, opening.clock, prefix=f"clg:{name}:quota:"),
        RedisDirectory(connection, opening.clock, prefix=f"clg:{name}:"),
        RedisCache(connection, opening.clock, prefix=f"clg:{name}:cache:"),
    )


def _local_bus(opening: Opening) -> Bus:
    settings, rules = opening.settings, bus_rules(opening.settings)
    # Work topics are rebuilt from the heads, so a process that works on its own runs only needs no file for them.
    if opening.scope == "own":
        return MemoryBus(opening.clock, rules)
    try:
        path = settings.data_dir / "bus.db"
        bus = SqliteBus(path, opening.clock, rules=rules, key=key_for_scratch(settings, path))
    except StoreError:
        if opening.scope == "all":
            raise
        return MemoryBus(opening.clock, rules)  # who only looks, or submits what others find by its head
    opening.stack.push_async_callback(bus.aclose)
    return bus
