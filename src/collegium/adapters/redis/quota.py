"""Rates and concurrency that all processes share, in Redis."""

from __future__ import annotations

from collegium.adapters.redis import scripts
from collegium.adapters.redis.connection import RedisConnection
from collegium.adapters.rows import to_us
from collegium.domain.rate import Rate
from collegium.ports import Clock


class RedisQuota:
    """Implements ``Quota``. A flushed Redis has forgotten what was taken: buckets are full, and nobody holds anything.

    Args:
        connection: May be shared with the bus; whoever made it closes it.
        clock: Fills the buckets; where clocks of hosts differ, the furthest one counts.
        prefix: Of every key, with the id of the store: ``clg:STORE:quota:``.
    """

    def __init__(self, connection: RedisConnection, clock: Clock, *, prefix: str) -> None:
        self._redis = connection
        self._clock = clock
        self._prefix = prefix

    async def take(self, bucket: str, rate: Rate, amount: float = 1.0) -> float:
        """0.0: ``amount`` was taken. Else the seconds after which to try again. Raises ``StoreError``."""
        return await self._take(bucket, rate, amount, is_owed=False)

    async def left(self, bucket: str, rate: Rate) -> float:
        """How much could be taken at once now; negative where something is owed. Raises ``StoreError``."""
        found = await self._redis.ask("HMGET", f"{self._prefix}r:{bucket}", "level", "at")
        if found[0] is None:
            return rate.burst
        elapsed_s = max(0.0, (to_us(self._clock.now()) - float(found[1])) / 1e6)
        return min(rate.burst, float(found[0]) + elapsed_s * rate.per_s)

    async def refund(self, bucket: str, rate: Rate, amount: float) -> None:
        """Gives ``amount`` back; a negative one is taken, and owed if need be. Raises ``StoreError``."""
        await self._take(bucket, rate, -amount, is_owed=True)

    async def hold(self, bucket: str, holder: str, *, limit: int, ttl_s: float) -> bool:
        """Whether ``holder`` is one of at most ``limit`` for the next ``ttl_s`` seconds. Raises ``StoreError``."""
        key, now_us = f"{self._prefix}h:{bucket}", to_us(self._clock.now())
        return bool(await self._redis.run(scripts.HOLD, key, now_us, holder, limit, round(ttl_s * 1e6)))

    async def release(self, bucket: str, holder: str) -> None:
        """``holder`` is none any more; twice is harmless. Raises ``StoreError``."""
        await self._redis.ask("ZREM", f"{self._prefix}h:{bucket}", holder)

    async def _take(self, bucket: str, rate: Rate, amount: float, *, is_owed: bool) -> float:
        key, now_us = f"{self._prefix}r:{bucket}", to_us(self._clock.now())
        numbers = (repr(float(amount)), repr(float(rate.per_s)), repr(float(rate.burst)))
        return float(await self._redis.run(scripts.TAKE, key, now_us, *numbers, int(is_owed)))
