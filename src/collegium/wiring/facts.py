"""What the servers say of themselves that the settings name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from collegium.adapters.clock import SystemClock
from collegium.config import Settings
from collegium.wiring.stores import is_postgres

if TYPE_CHECKING:
    from collegium.adapters.postgres.facts import PostgresFacts
    from collegium.adapters.redis.facts import RedisFacts


async def postgres_facts(settings: Settings) -> PostgresFacts | None:
    """The store's server; None where the store is no PostgreSQL. Raises ``UsageError``, ``StoreError``."""
    if not is_postgres(settings.store):
        return None
    from collegium.adapters.postgres.facts import look

    return await look(settings.store, SystemClock())


async def redis_facts(settings: Settings) -> RedisFacts | None:
    """The server of the bus; None where there is no Redis. Raises ``UsageError``, ``StoreError``."""
    if settings.redis is None:
        return None
    from collegium.adapters.redis.facts import look

    return await look(settings.redis, SystemClock())


def connections_of(settings: Settings) -> tuple[int, int]:
    """Connections to PostgreSQL that one process opens at most, and how many processes `serve` makes."""
    # Beside the pool: one that writes, one for signs of life.
    return settings.postgres.pool + 2, settings.server.workers + 1
