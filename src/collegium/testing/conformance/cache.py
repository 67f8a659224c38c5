"""What every ``Cache`` does."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager

import pytest

from collegium.ports import Cache, Clock
from collegium.testing.clock import FakeClock

LIMIT_BYTES = 10_000
"""The cap that ``open`` must give the cache."""


@pytest.mark.asyncio
class CacheConformance(ABC):
    """Subclass it as ``Test...`` and implement ``open``."""

    @abstractmethod
    def open(self, clock: Clock) -> AbstractAsyncContextManager[Cache]:
        """An empty cache of ``LIMIT_BYTES``, closed at exit."""

    async def test_put_and_get(self) -> None:
        async with self.open(FakeClock()) as cache:
            assert await cache.get("a") is None
            await cache.put("a", b"\x00one", ttl_s=10)
            await cache.put("b", b"", ttl_s=10)
            assert await cache.get("a") == b"\x00one"
            assert await cache.get("b") == b""
            await cache.put("a", b"two", ttl_s=10)
            assert await cache.get("a") == b"two"

    async def test_values_expire(self) -> None:
        clock = FakeClock()
        async with self.open(clock) as cache:
            await cache.put("a", b"x", ttl_s=10)
            await cache.put("b", b"x", ttl_s=20)
            await cache.put("c", b"x", ttl_s=0)
            assert await cache.get("c") is None
            await clock.advance(9.5)
            assert await cache.get("a") == b"x"
            await clock.advance(0.5)
            assert await cache.get("a") is None
            assert await cache.get("b") == b"x"
            await cache.put("b", b"y", ttl_s=20)
            await clock.advance(19)
            assert await cache.get("b") == b"y"

    async def test_it_never_grows_beyond_its_cap(self) -> None:
        async with self.open(FakeClock()) as cache:
            for n in range(100):
                await cache.put(f"k{n}", b"x" * 1_000, ttl_s=100)
            kept = [n for n in range(100) if await cache.get(f"k{n}") is not None]
            assert 5 <= len(kept) <= 10
            assert kept == list(range(100 - len(kept), 100))

    async def test_a_value_beyond_the_cap_is_not_kept_and_harms_nobody(self) -> None:
        async with self.open(FakeClock()) as cache:
            await cache.put("small", b"x", ttl_s=100)
            await cache.put("large", b"x" * (LIMIT_BYTES + 1), ttl_s=100)
            assert await cache.get("large") is None
            assert await cache.get("small") == b"x"

    async def test_overwriting_frees_the_old_value(self) -> None:
        async with self.open(FakeClock()) as cache:
            await cache.put("other", b"x" * 1_000, ttl_s=100)
            for n in range(100):
                await cache.put("same", bytes([n]) * 5_000, ttl_s=100)
            assert await cache.get("other") == b"x" * 1_000
            assert await cache.get("same") == bytes([99]) * 5_000
