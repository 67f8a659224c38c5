"""Key rings: which of a provider's keys the next call takes, and when it may take it."""

from __future__ import annotations

import asyncio
import os
import platform
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from math import inf
from typing import Final

import msgspec

from collegium.domain.errors import CollegiumError, ModelRateLimited
from collegium.domain.rate import Rate, per_minute
from collegium.ports import Clock, Quota

PATIENCE_S: Final = 60.0
"""A call waits so long for a key before it is given up."""
REFUSED_S: Final = 300.0
REST_S: Final = 2.0
"""A key whose provider asks to slow down, and does not say for how long, is left alone for this."""
POLL_S: Final = 0.1
HOLD_S: Final = 30.0
MINUTE_S: Final = 60.0
_RESTING: Final = Rate(per_s=1.0, burst=0.001)
"""Resting is a debt of seconds: a bucket that fills with one a second and holds next to nothing."""


class ModelRate(msgspec.Struct, frozen=True, kw_only=True):
    """What a provider allows: requests and tokens a minute for each key, calls at once over all keys. None: any."""

    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    concurrent: int | None = None


@dataclass
class _Key:
    """One key, as this process knows it. ``requests`` and ``tokens``: the shares of a minute's worth that are left."""

    name: str
    requests: float = 1.0
    tokens: float = 1.0
    seen_s: float = 0.0
    rests_until_s: float = 0.0
    refused_until_s: float = 0.0
    in_flight: int = 0
    turn: int = 0


class Turn:
    """A call that may be sent with key number ``key``; what it is told here counts when the turn is over."""

    def __init__(self, key: int, reserved: float) -> None:
        self.key = key
        self.reserved = reserved
        self.used: float | None = None
        """Tokens that were used; None: as many as were reserved."""
        self.rest_s: float | None = None
        """For how long the key is to be left alone."""
        self.is_refused = False
        """Whether the provider does not take the key at all: others are taken first for a while."""


class KeyRing:
    """The keys of one provider, or of the models that share its rates.

    Each call takes the key with the most room, as far as this process knows, and the next one where others have used
    that up. Buckets are shared with all processes that have the same quota. A quota that is away holds up nobody.

    Args:
        scope: What the rates are for; part of the buckets' names.
        names: What the keys are called, without showing them.
        rate: What the provider allows.
        quota: Where the buckets are; without one only rests are kept, by this process alone.
        patience_s: How long a call waits at most.
    """

    def __init__(
        self,
        scope: str,
        names: Sequence[str],
        rate: ModelRate,
        *,
        quota: Quota | None,
        clock: Clock,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._scope = scope
        self._keys = [_Key(name, seen_s=clock.monotonic()) for name in names]
        self._requests = None if rate.requests_per_minute is None else per_minute(rate.requests_per_minute)
        self._tokens = None if rate.tokens_per_minute is None else per_minute(rate.tokens_per_minute)
        self._concurrent = rate.concurrent
        self._quota = quota
        self._clock = clock
        self._patience_s = patience_s
        self._turns = 0

    def __len__(self) -> int:
        return len(self._keys)

    @asynccontextmanager
    async def turn(self, tokens: float, *, without: frozenset[int] = frozenset()) -> AsyncIterator[Turn]:
        """A turn for a call of about ``tokens`` tokens; with none of the keys ``without``, and at once if any are.

        Raises ``ModelRateLimited`` when none has room within the patience.
        """
        ends_s = self._clock.monotonic() + (0.0 if without else self._patience_s)
        async with self._place(ends_s):
            turn = Turn(await self._key(tokens, without, ends_s), tokens)
            key = self._keys[turn.key]
            key.in_flight += 1
            try:
                yield turn
            finally:
                key.in_flight -= 1
                await self._settle(key, turn)

    async def _key(self, tokens: float, without: frozenset[int], ends_s: float) -> int:
        while True:
            soonest_s = inf
            for index in self._by_room(without):
                wait_s = await self._take(self._keys[index], tokens)
                if wait_s <= 0:
                    return index
                soonest_s = min(soonest_s, wait_s)
            if self._clock.monotonic() + soonest_s > ends_s:
                raise self._empty(soonest_s)
            await self._clock.sleep(max(soonest_s, 0.001))

    def _by_room(self, without: frozenset[int]) -> list[int]:
        now_s = self._clock.monotonic()
        for key in self._keys:
            filled, key.seen_s = (now_s - key.seen_s) / MINUTE_S, now_s
            key.requests, key.tokens = min(1.0, key.requests + filled), min(1.0, key.tokens + filled)

        def order(index: int) -> tuple[object, ...]:
            key = self._keys[index]
            room = min(key.requests if self._requests else 1.0, key.tokens if self._tokens else 1.0)
            return max(0.0, key.rests_until_s - now_s), -round(room, 6), key.in_flight, key.turn

        left = [i for i in range(len(self._keys)) if i not in without]
        taken = [i for i in left if self._keys[i].refused_until_s <= now_s]
        return sorted(taken or left, key=order)

    async def _take(self, key: _Key, tokens: float) -> float:
        """0.0 when the call may be sent with ``key``; else in how many seconds it may be asked again."""
        rests_s = key.rests_until_s - self._clock.monotonic()
        if rests_s > 0:
            return rests_s
        try:
            wait_s = await self._take_shared(key, tokens)
        except CollegiumError:
            wait_s = 0.0
        if wait_s > 0:
            return wait_s
        self._turns += 1
        key.turn = self._turns
        self._spend(key, 1.0, tokens)
        return 0.0

    async def _take_shared(self, key: _Key, tokens: float) -> float:
        if self._quota is None:
            return 0.0
        if (rests_s := await self._quota.take(self._bucket(key, "rest"), _RESTING, 1e-6)) > 0:
            key.rests_until_s = self._clock.monotonic() + rests_s
            return rests_s
        if self._requests is not None:
            wait_s = await self._quota.take(self._bucket(key, "requests"), self._requests, 1.0)
            if wait_s > 0:
                key.requests = 0.0
                return wait_s
        if self._tokens is not None:
            wait_s = await self._quota.take(self._bucket(key, "tokens"), self._tokens, tokens)
            if wait_s > 0:
                key.tokens = min(key.tokens, max(0.0, tokens / self._tokens.burst - wait_s / MINUTE_S))
                if self._requests is not None:
                    await self._quota.refund(self._bucket(key, "requests"), self._requests, 1.0)
                return wait_s
        return 0.0

    async def _settle(self, key: _Key, turn: Turn) -> None:
        unused = 0.0 if turn.used is None else turn.reserved - turn.used
        self._spend(key, 0.0, -unused)
        if turn.is_refused:
            key.refused_until_s = self._clock.monotonic() + REFUSED_S
        try:
            if unused and self._quota is not None and self._tokens is not None:
                await self._quota.refund(self._bucket(key, "tokens"), self._tokens, unused)
            if turn.rest_s is not None:
                await self._rest(key, turn.rest_s)
        except CollegiumError:
            return  # the next calls find out by themselves

    async def _rest(self, key: _Key, seconds: float) -> None:
        key.rests_until_s = max(key.rests_until_s, self._clock.monotonic() + seconds)
        if self._quota is not None:
            bucket = self._bucket(key, "rest")
            known_s = await self._quota.take(bucket, _RESTING, 1e-6)
            if seconds > known_s:  # several calls are told the same at once: it rests once
                await self._quota.refund(bucket, _RESTING, known_s - seconds)

    def _spend(self, key: _Key, requests: float, tokens: float) -> None:
        if self._requests is not None:
            key.requests -= requests / self._requests.burst
        if self._tokens is not None:
            key.tokens = min(1.0, key.tokens - tokens / self._tokens.burst)

    @asynccontextmanager
    async def _place(self, ends_s: float) -> AsyncIterator[None]:
        """Inside it this call is one of those that may be made at once."""
        if self._concurrent is None or self._quota is None:
            yield
            return
        self._turns += 1
        bucket, holder = f"model:{self._scope}:calls", f"{platform.node()}:{os.getpid()}:{id(self):x}:{self._turns}"
        while not await self._hold(bucket, holder, self._concurrent):
            if self._clock.monotonic() + POLL_S > ends_s:
                raise self._empty(POLL_S)
            await self._clock.sleep(POLL_S)
        renewing = asyncio.create_task(self._renew(bucket, holder, self._concurrent))
        try:
            yield
        finally:
            renewing.cancel()
            with suppress(CollegiumError):  # it is free by itself soon
                await self._quota.release(bucket, holder)

    async def _renew(self, bucket: str, holder: str, limit: int) -> None:
        while True:
            await self._clock.sleep(HOLD_S / 3)
            await self._hold(bucket, holder, limit)

    async def _hold(self, bucket: str, holder: str, limit: int) -> bool:
        assert self._quota is not None  # noqa: S101 - asked for by those who have one
        try:
            return await self._quota.hold(bucket, holder, limit=limit, ttl_s=HOLD_S)
        except CollegiumError:
            return True

    def _bucket(self, key: _Key, what: str) -> str:
        return f"model:{self._scope}:{key.name}:{what}"

    def _empty(self, wait_s: float) -> ModelRateLimited:
        keys = "its key" if len(self._keys) == 1 else f"each of its {len(self._keys)} keys"
        return ModelRateLimited(
            f"{self._scope} has no room for a call: {keys} is used up or rests, the next is free in {wait_s:.1f} s and "
            f"a call waits for {self._patience_s:g} s; raise the rates, add keys, or send less at once",
            retry_after_s=wait_s,
            model=self._scope,
        )
