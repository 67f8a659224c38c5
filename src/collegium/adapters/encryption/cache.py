"""A cache whose values are sealed: what models answered is as private as what was asked."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from collegium.domain.envelope import is_sealed, place_of
from collegium.domain.errors import Erased, StoreCorrupt
from collegium.ports import Cache, Sealer

TENANT: Final = "~cache"


class SealedCache:
    """Implements ``Cache`` over another one. What cannot be opened is not there."""

    def __init__(self, cache: Cache, sealer: Sealer) -> None:
        self._cache = cache
        self._sealer = sealer

    async def get(self, key: str) -> bytes | None:
        """The bytes, or None when absent, expired, plain or not to be opened."""
        found = await self._cache.get(key)
        if found is None or not is_sealed(found):
            return None
        with suppress(Erased, StoreCorrupt):
            return self._sealer.open(TENANT, place_of(TENANT, "cache", key), found)
        return None

    async def put(self, key: str, value: bytes, *, ttl_s: float) -> None:
        """Keeps the bytes, sealed."""
        self._sealer.require(TENANT)
        sealed, _ = self._sealer.seal(TENANT, place_of(TENANT, "cache", key), value)
        await self._cache.put(key, sealed, ttl_s=ttl_s)
