"""A cache in Redis, shared by all processes."""

from __future__ import annotations

import math
from typing import Final

from collegium.adapters.redis import scripts
from collegium.adapters.redis.connection import RedisConnection
from collegium.adapters.rows import to_us
from collegium.ports import Clock

_DEFAULT_BYTES: Final = 256 * 1024 * 1024


class RedisCache:
    """Implements ``Cache``. What was put longest ago makes room, and Redis may drop what it likes.

    Args:
        connection: May be shared with the bus; whoever made it closes it.
        clock: Tells when a value is too old.
        prefix: Of every key, with the id of the store: ``clg:STORE:cache:``.
        limit_bytes: Cap on the sum of all values; a larger value is not kept at all.
    """

    def __init__(
        self, connection: RedisConnection, clock: Clock, *, prefix: str, limit_bytes: int = _DEFAULT_BYTES
    ) -> None:
        self._redis = connection
        self._clock = clock
        self._prefix = prefix
        self._limit_bytes = limit_bytes

    async def get(self, key: str) -> bytes | None:
        """The bytes, or None when absent or expired. Raises ``StoreError``."""
        value = await self._redis.run(scripts.CACHE_GET, self._prefix, to_us(self._clock.now()), key)
        return None if value is None else bytes(value)

    async def put(self, key: str, value: bytes, *, ttl_s: float) -> None:
        """Keeps the bytes for at most ``ttl_s`` seconds. Raises ``StoreError``."""
        is_kept = len(value) <= self._limit_bytes
        ttl_ms = math.ceil(ttl_s * 1_000) if is_kept else 0
        kept = bytes(value) if ttl_ms > 0 else b""
        now_us = to_us(self._clock.now())
        await self._redis.run(scripts.CACHE_PUT, self._prefix, now_us, key, kept, ttl_ms, self._limit_bytes)
