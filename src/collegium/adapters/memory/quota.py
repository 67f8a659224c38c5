"""Rates and concurrency in this process's memory."""

from __future__ import annotations

from dataclasses import dataclass, field

from collegium.domain.rate import Rate
from collegium.ports import Clock

_MANY = 10_000
_CLOSE = 1e-9
"""Of a burst: what is missing by rounding alone is not missing."""


@dataclass(slots=True)
class _Bucket:
    level: float
    at_s: float
    rate: Rate

    def fill(self, rate: Rate, now_s: float) -> None:
        self.level = min(rate.burst, self.level + (now_s - self.at_s) * rate.per_s)
        self.at_s = now_s
        self.rate = rate

    def is_full(self, now_s: float) -> bool:
        return self.level + (now_s - self.at_s) * self.rate.per_s >= self.rate.burst


@dataclass(slots=True)
class _Holders:
    until_s: dict[str, float] = field(default_factory=dict)

    def drop(self, now_s: float) -> None:
        self.until_s = {holder: until_s for holder, until_s in self.until_s.items() if until_s > now_s}


class MemoryQuota:
    """Implements ``Quota`` for one process; all is forgotten with it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}
        self._holders: dict[str, _Holders] = {}

    async def take(self, bucket: str, rate: Rate, amount: float = 1.0) -> float:
        """0.0: ``amount`` was taken. Else the seconds after which to try again."""
        found = self._bucket(bucket, rate)
        needed = min(amount, rate.burst)
        if found.level < needed - _CLOSE * rate.burst:
            return (needed - found.level) / rate.per_s
        found.level = min(rate.burst, found.level - amount)
        return 0.0

    async def left(self, bucket: str, rate: Rate) -> float:
        """How much could be taken at once now; negative where something is owed."""
        return self._bucket(bucket, rate).level

    async def refund(self, bucket: str, rate: Rate, amount: float) -> None:
        """Gives ``amount`` back; a negative one is taken, and owed if need be."""
        found = self._bucket(bucket, rate)
        found.level = min(rate.burst, found.level + amount)

    async def hold(self, bucket: str, holder: str, *, limit: int, ttl_s: float) -> bool:
        """Whether ``holder`` is one of at most ``limit`` for the next ``ttl_s`` seconds."""
        now_s = self._clock.monotonic()
        if len(self._holders) > _MANY:
            self._sweep(now_s)
        found = self._holders.setdefault(bucket, _Holders())
        found.drop(now_s)
        if holder not in found.until_s and len(found.until_s) >= limit:
            return False
        found.until_s[holder] = now_s + ttl_s
        return True

    async def release(self, bucket: str, holder: str) -> None:
        """``holder`` is none any more; twice is harmless."""
        found = self._holders.get(bucket)
        if found is not None and found.until_s.pop(holder, None) is not None and not found.until_s:
            del self._holders[bucket]

    def _bucket(self, name: str, rate: Rate) -> _Bucket:
        now_s = self._clock.monotonic()
        found = self._buckets.get(name)
        if found is None:
            if len(self._buckets) > _MANY:
                self._sweep(now_s)
            found = self._buckets[name] = _Bucket(rate.burst, now_s, rate)
        found.fill(rate, now_s)
        return found

    def _sweep(self, now_s: float) -> None:
        """Forgets full buckets, which are as good as new ones, and those that nobody holds."""
        self._buckets = {name: bucket for name, bucket in self._buckets.items() if not bucket.is_full(now_s)}
        for holders in self._holders.values():
            holders.drop(now_s)
        self._holders = {name: holders for name, holders in self._holders.items() if holders.until_s}
