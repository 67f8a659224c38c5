"""What every ``Blobs`` does."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager

import pytest

from collegium.domain.errors import NotFound
from collegium.ports import Blobs


@pytest.mark.asyncio
class BlobsConformance(ABC):
    """Subclass it as ``Test...`` and implement ``open``."""

    @abstractmethod
    def open(self) -> AbstractAsyncContextManager[Blobs]:
        """An empty store, closed at exit."""

    @pytest.mark.parametrize("data", [b"", b"x", bytes(range(256)) * 17, b"\x00" * 3_000_000], ids=len)
    async def test_bytes_come_back_by_their_hash(self, data: bytes) -> None:
        async with self.open() as blobs:
            name = blobs.put("acme", data)
            assert name == hashlib.sha256(data).hexdigest()
            await blobs.flush()
            assert await blobs.get("acme", name) == data

    async def test_many_puts_one_flush(self) -> None:
        async with self.open() as blobs:
            names = [blobs.put("acme", str(n % 70).encode()) for n in range(200)]
            await blobs.flush()
            for n, name in enumerate(names):
                assert await blobs.get("acme", name) == str(n % 70).encode()

    async def test_tenants_are_apart(self) -> None:
        async with self.open() as blobs:
            name = blobs.put("acme", b"secret")
            await blobs.flush()
            with pytest.raises(NotFound):
                await blobs.get("other", name)
            assert not await blobs.delete("other", name)
            assert blobs.put("other", b"secret") == name
            await blobs.flush()
            assert await blobs.delete("acme", name)
            assert await blobs.get("other", name) == b"secret"

    async def test_delete(self) -> None:
        async with self.open() as blobs:
            name = blobs.put("acme", b"x")
            assert await blobs.delete("acme", name)
            assert not await blobs.delete("acme", name)
            with pytest.raises(NotFound):
                await blobs.get("acme", name)
            blobs.put("acme", b"x")
            await blobs.flush()
            assert await blobs.get("acme", name) == b"x"

    async def test_what_is_not_there(self) -> None:
        async with self.open() as blobs:
            with pytest.raises(NotFound):
                await blobs.get("acme", "0" * 64)
            await blobs.flush()
