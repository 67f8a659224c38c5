"""The catalogue's blobs, with what the appends to other shards have to know of them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

from collegium.adapters.blob_rules import names_in
from collegium.domain.errors import CollegiumError
from collegium.ports import Blobs

_MAX_PENDING: Final = 1_000
"""With so many puts that nobody has waited for, a flush is begun: their names need not be remembered for ever."""
_MAX_LOST: Final = 100_000


class GuardedBlobs:
    """Implements ``Blobs``: knows which puts of this process are not known to be durable, and which are lost.

    In one store an event is written behind the blobs it names by the same writer. A shard has another writer, so its
    appends wait for ``covered`` while ``is_pending``, and those that name a lost blob are refused by ``check``.
    """

    def __init__(self, inner: Blobs) -> None:
        self._inner = inner
        self._count = 0
        self._settled = 0
        self._pending: dict[tuple[str, str], int] = {}
        self._lost: dict[tuple[str, str], CollegiumError] = {}
        self._unreported: CollegiumError | None = None
        self._covering: asyncio.Task[None] | None = None

    @property
    def is_pending(self) -> bool:
        """Whether something was put that is not known to be durable."""
        return self._settled < self._count

    @property
    def has_lost(self) -> bool:
        """Whether something was put that is not stored."""
        return bool(self._lost)

    def put(self, tenant: str, data: bytes) -> str:
        """Orders the bytes to be stored; see ``Blobs.put``. What was lost is mended by it."""
        name = self._inner.put(tenant, data)
        self._count += 1
        self._pending.pop((tenant, name), None)
        self._pending[tenant, name] = self._count
        self._lost.pop((tenant, name), None)
        if len(self._pending) > _MAX_PENDING:
            _ = self._cover()
        return name

    async def flush(self) -> None:
        """Returns once everything put so far is durable. Raises ``StoreError`` for puts that failed, once."""
        await self.covered()
        error, self._unreported = self._unreported, None
        if error is not None:
            raise type(error)(error.message, **error.fields)

    async def get(self, tenant: str, sha256: str) -> bytes:
        """The bytes, verified."""
        return await self._inner.get(tenant, sha256)

    async def delete(self, tenant: str, sha256: str) -> bool:
        """Whether there was something to delete."""
        return await self._inner.delete(tenant, sha256)

    async def covered(self) -> None:
        """Returns once of everything put so far it is known whether it is durable or lost."""
        wanted = self._count
        while self._settled < wanted:
            await asyncio.shield(self._cover())

    def check(self, tenant: str, texts: Iterable[bytes]) -> None:
        """Raises the error by which a blob was lost that is named in ``texts``."""
        for text in texts if self._lost else ():
            for name in names_in(text):
                error = self._lost.get((tenant, name))
                if error is not None:
                    raise type(error)(error.message, **error.fields)

    async def aclose(self) -> None:
        """Waits for what is under way."""
        if self._covering is not None:
            await asyncio.gather(self._covering, return_exceptions=True)

    def _cover(self) -> asyncio.Task[None]:
        """One flush at a time: what failed before it is said to one of them only."""
        if self._covering is None:
            self._covering = asyncio.create_task(self._flush())
        return self._covering

    async def _flush(self) -> None:
        until, error = self._count, None
        try:
            await self._inner.flush()
        except CollegiumError as failure:
            error = self._unreported = failure
        finally:
            self._covering = None
        self._settled = until
        for key, number in list(self._pending.items()):
            if number > until:
                break
            del self._pending[key]
            if error is not None:
                self._lost[key] = error
        while len(self._lost) > _MAX_LOST:
            del self._lost[next(iter(self._lost))]
