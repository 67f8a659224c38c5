"""Settings to open stores: SQLite files of this machine, or PostgreSQL and Redis."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from collegium.adapters.bus_rules import DEFAULT_RULES, BusRules
from collegium.adapters.memory.bus import MemoryBus
from collegium.adapters.presence import FilePresence
from collegium.adapters.rows import Entropy
from collegium.adapters.sqlite.bus import SqliteBus
from collegium.app import Scope, Stores
from collegium.config import Settings
from collegium.domain.errors import MissingExtra, StoreError, UsageError
from collegium.ports import Bus, Clock

Close = Callable[[], Awaitable[None]]
POSTGRES = ("postgresql", "postgres")


@dataclass(frozen=True, kw_only=True)
class OpenStores:
    """Open stores, and what closes them, the newest first."""

    stores: Stores
    closes: tuple[Close, ...]

    async def aclose(self) -> None:
        """Closes all of them."""
        for close in reversed(self.closes):
            await close()


async def open_stores(
    settings: Settings, scope: Scope, *, clock: Clock, chain_key: bytes, entropy: Entropy
) -> OpenStores:
    """The stores that ``settings`` name, open. Raises ``UsageError`` and ``StoreError``."""
    scheme = settings.store.partition(":")[0]
    if scheme in POSTGRES:
        return await _postgres(settings, scope, clock=clock, chain_key=chain_key, entropy=entropy)
    return await _sqlite(settings, scope, clock=clock, chain_key=chain_key, entropy=entropy)


async def _sqlite(settings: Settings, scope: Scope, *, clock: Clock, chain_key: bytes, entropy: Entropy) -> OpenStores:
    from collegium.adapters.sqlite.store import open_store

    store = open_store(sqlite_path(settings.store), clock=clock, chain_key=chain_key, entropy=entropy)
    closes: list[Close] = [store.aclose]
    try:
        bus = _local_bus(settings, scope, clock, closes)
        stores = Stores(
            journal=store.journal,
            bus=bus,
            records=store.records,
            blobs=store.blobs,
            archive=store.archive,
            presence=FilePresence(settings.data_dir / "workers", clock=clock, lease_s=settings.worker.lease_s),
        )
    except BaseException:
        await store.aclose()
        raise
    return OpenStores(stores=stores, closes=tuple(closes))


async def _postgres(
    settings: Settings, scope: Scope, *, clock: Clock, chain_key: bytes, entropy: Entropy
) -> OpenStores:
    if find_spec("psycopg") is None:
        raise MissingExtra("a PostgreSQL store needs the extra [postgres]: pip install 'collegium[postgres]'")
    from collegium.adapters.postgres.presence import PostgresPresence
    from collegium.adapters.postgres.store import open_store

    store = await open_store(
        settings.store,
        clock=clock,
        chain_key=chain_key,
        entropy=entropy,
        patience_s=settings.postgres.patience_s,
        pool=settings.postgres.pool,
    )
    presence = PostgresPresence(settings.store, clock=clock, lease_s=settings.worker.lease_s)
    closes: list[Close] = [store.aclose, presence.aclose]
    stores = Stores(
        journal=store.journal,
        bus=MemoryBus(clock),
        records=store.records,
        blobs=store.blobs,
        archive=store.archive,
        presence=presence,
    )
    return OpenStores(stores=stores, closes=tuple(closes))


def sqlite_path(url: str) -> Path:
    """The file that ``sqlite:///PATH`` names. Raises ``UsageError`` for any other URL."""
    scheme, separator, rest = url.partition(":///")
    if scheme != "sqlite" or not separator or not rest:
        raise UsageError(
            f"the store {url.partition('@')[2] or url!r} cannot be opened: this version knows sqlite:///PATH and "
            "postgresql://USER:PASSWORD@HOST/DATABASE",
            store=url.partition("@")[2] or url,
        )
    return Path(rest).expanduser()


def bus_rules(settings: Settings) -> BusRules:
    """The rules of the bus. A worker that died between claim and start hides its messages as long as its tasks."""
    return DEFAULT_RULES._replace(hide_s=settings.worker.lease_s)


def _local_bus(settings: Settings, scope: Scope, clock: Clock, closes: list[Close]) -> Bus:
    # Work topics are rebuilt from the heads, so a process that works on its own runs only needs no file for them.
    if scope == "own":
        return MemoryBus(clock)
    try:
        bus = SqliteBus(settings.data_dir / "bus.db", clock, rules=bus_rules(settings))
    except StoreError:
        if scope == "all":
            raise
        return MemoryBus(clock)  # who only looks, or submits what others find by its head, can do without
    closes.append(bus.aclose)
    return bus
