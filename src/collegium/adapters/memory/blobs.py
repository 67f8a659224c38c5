"""Blobs in this process's memory."""

from __future__ import annotations

import hashlib
from datetime import datetime

from collegium.adapters.clock import SystemClock
from collegium.domain.errors import NotFound
from collegium.ports import Clock


class MemoryBlobs:
    """Implements ``Blobs``; all is lost with the process."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._data: dict[tuple[str, str], bytes] = {}
        self._put_at: dict[tuple[str, str], datetime] = {}

    def put(self, tenant: str, data: bytes) -> str:
        """Keeps the bytes and returns their hex SHA-256."""
        name = hashlib.sha256(data).hexdigest()
        self._data[tenant, name] = bytes(data)
        self._put_at[tenant, name] = self._clock.now()
        return name

    def names(self, *, before: datetime) -> frozenset[tuple[str, str]]:
        """Tenant and SHA-256 of every blob that was put last ``before``."""
        return frozenset(name for name, at in self._put_at.items() if at < before)

    async def flush(self) -> None:
        """Returns at once: there is nothing more durable than this."""

    async def get(self, tenant: str, sha256: str) -> bytes:
        """The bytes. Raises ``NotFound``."""
        try:
            return self._data[tenant, sha256]
        except KeyError:
            raise NotFound(f"tenant {tenant!r} has no blob {sha256}", tenant=tenant, sha256=sha256) from None

    async def delete(self, tenant: str, sha256: str) -> bool:
        """Whether there was something to delete."""
        self._put_at.pop((tenant, sha256), None)
        return self._data.pop((tenant, sha256), None) is not None
