"""Blobs in this process's memory."""

from __future__ import annotations

import hashlib

from collegium.domain.errors import NotFound


class MemoryBlobs:
    """Implements ``Blobs``; all is lost with the process."""

    def __init__(self) -> None:
        self._data: dict[tuple[str, str], bytes] = {}

    def put(self, tenant: str, data: bytes) -> str:
        """Keeps the bytes and returns their hex SHA-256."""
        name = hashlib.sha256(data).hexdigest()
        self._data[tenant, name] = bytes(data)
        return name

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
        return self._data.pop((tenant, sha256), None) is not None
