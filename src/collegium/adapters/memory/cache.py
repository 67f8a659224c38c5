"""A cache in this process's memory."""

from __future__ import annotations

from collections import OrderedDict

from collegium.ports import Clock


class MemoryCache:
    """Implements ``Cache``; what was used longest ago makes room.

    Args:
        clock: Tells when a value is too old.
        limit_bytes: Cap on the sum of all values; a larger value is not kept at all.
    """

    def __init__(self, clock: Clock, *, limit_bytes: int = 64 * 1024 * 1024) -> None:
        self._clock = clock
        self._limit_bytes = limit_bytes
        self._size_bytes = 0
        self._kept: OrderedDict[str, tuple[float, bytes]] = OrderedDict()

    async def get(self, key: str) -> bytes | None:
        """The bytes, or None when absent or expired."""
        entry = self._kept.get(key)
        if entry is None:
            return None
        if entry[0] <= self._clock.monotonic():
            self._drop(key)
            return None
        self._kept.move_to_end(key)
        return entry[1]

    async def put(self, key: str, value: bytes, *, ttl_s: float) -> None:
        """Keeps the bytes for at most ``ttl_s`` seconds."""
        self._drop(key)
        if ttl_s <= 0 or len(value) > self._limit_bytes:
            return
        self._kept[key] = (self._clock.monotonic() + ttl_s, bytes(value))
        self._size_bytes += len(value)
        while self._size_bytes > self._limit_bytes:
            self._drop(next(iter(self._kept)))

    def _drop(self, key: str) -> None:
        entry = self._kept.pop(key, None)
        if entry is not None:
            self._size_bytes -= len(entry[1])
