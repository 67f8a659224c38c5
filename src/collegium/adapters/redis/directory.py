"""The cards of workers, in Redis."""

from __future__ import annotations

from typing import Final

import msgspec

from collegium.adapters.redis.connection import RedisConnection
from collegium.adapters.rows import to_us
from collegium.domain.worker import WorkerCard
from collegium.ports import Clock

_FORGOTTEN_S: Final = 86_400


class _Posted(msgspec.Struct, frozen=True):
    until_us: int
    card: WorkerCard


_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(_Posted).decode


class RedisDirectory:
    """Implements ``Directory``: one hash, a field for each worker.

    Args:
        connection: May be shared with the bus; whoever made it closes it.
        clock: Tells which cards still count.
        prefix: Of its key, with the id of the store: ``clg:STORE:``.
    """

    def __init__(self, connection: RedisConnection, clock: Clock, *, prefix: str) -> None:
        self._redis = connection
        self._clock = clock
        self._key = f"{prefix}workers"

    async def post(self, card: WorkerCard, *, ttl_s: float) -> None:
        """Shows the card for ``ttl_s`` seconds, in place of the worker's last one. Raises ``StoreError``."""
        posted = _Posted(until_us=to_us(self._clock.now()) + round(ttl_s * 1e6), card=card)
        await self._redis.ask("HSET", self._key, card.worker, _encode(posted))
        await self._redis.ask("EXPIRE", self._key, max(_FORGOTTEN_S, round(2 * ttl_s)))

    async def cards(self) -> tuple[WorkerCard, ...]:
        """The cards that still count, by worker; others are forgotten. Raises ``StoreError``."""
        fields = await self._redis.ask("HGETALL", self._key)
        now_us = to_us(self._clock.now())
        cards, old = [], []
        for worker, value in zip(fields[::2], fields[1::2], strict=True):
            try:
                posted = _decode(value)
            except msgspec.MsgspecError:
                continue  # written by another version
            if posted.until_us > now_us:
                cards.append(posted.card)
            elif posted.until_us < now_us - _FORGOTTEN_S * 1_000_000:
                old.append(worker)
        if old:
            await self._redis.ask("HDEL", self._key, *old)
        return tuple(sorted(cards, key=lambda card: card.worker))

    async def remove(self, worker: str) -> None:
        """The worker has left; twice is harmless. Raises ``StoreError``."""
        await self._redis.ask("HDEL", self._key, worker)
