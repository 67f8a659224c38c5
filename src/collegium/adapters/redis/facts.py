"""What a Redis server says of itself, for whoever checks an installation."""

from __future__ import annotations

from typing import NamedTuple

from collegium.adapters.redis.connection import RedisConnection
from collegium.domain.errors import StoreUnavailable
from collegium.ports import Clock


class RedisFacts(NamedTuple):
    """A server, as it is now.

    Attributes:
        place: Where it is, without a password.
        ahead_s: How far its clock is ahead of this machine's, to half the time of a question and its answer.
        used_bytes: Memory it uses.
        max_bytes: Memory it may use; 0 for all there is.
        policy: What it removes when that is full.
    """

    place: str
    version: str
    ahead_s: float
    used_bytes: int
    max_bytes: int
    policy: str


async def look(url: str, clock: Clock) -> RedisFacts:
    """The facts of the server at ``url``. Raises ``UsageError``, ``StoreError``."""
    redis = RedisConnection(url, patience_s=3.0)
    try:
        if not await redis.check():
            # Once more by the usual way, whose error says what is wrong.
            await redis.ask("PING")
            raise StoreUnavailable(f"{redis.place} cannot be used now", store=redis.place)
        info = bytes(await redis.ask("INFO")).decode(errors="replace")
        before_s = clock.now().timestamp()
        seconds, micros = await redis.ask("TIME")
        middle_s = (before_s + clock.now().timestamp()) / 2
    finally:
        await redis.aclose()
    said = dict(line.split(":", 1) for line in info.splitlines() if ":" in line)
    return RedisFacts(
        place=redis.place,
        version=said.get("redis_version", "?"),
        ahead_s=int(seconds) + int(micros) / 1e6 - middle_s,
        used_bytes=int(said.get("used_memory", 0)),
        max_bytes=int(said.get("maxmemory", 0)),
        policy=said.get("maxmemory_policy", ""),
    )
