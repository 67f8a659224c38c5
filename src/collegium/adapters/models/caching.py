"""A model that does not ask twice: replies are kept by the hash of what was asked."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import AsyncIterator

import msgspec

from collegium.adapters.models.streams import closing
from collegium.domain.chat import Delta, ModelProfile, ModelReply, ModelRequest
from collegium.domain.errors import StoreError
from collegium.domain.usage import Usage
from collegium.ports import Cache, Model

_VERSION = 1
_ENCODE = msgspec.json.Encoder(order="sorted").encode
_DECODE = msgspec.json.Decoder(ModelReply).decode


def request_hash(request: ModelRequest, model: str) -> str:
    """SHA-256 (hex) of the canonical request and the model's name.

    Keys of objects are sorted. ``cached_prefix`` is left out: it is a hint that changes no reply.
    """
    canonical = msgspec.structs.replace(request, cached_prefix=0)
    return hashlib.sha256(_ENCODE((_VERSION, model, canonical))).hexdigest()


class CachingModel:
    """``inner`` behind a ``Cache``.

    Only requests at temperature 0 are looked up, and only their whole replies (``stop``, ``tool_calls``) are kept: a
    cut or refused reply may come out better the next time. A reply from the cache has an empty usage: no tokens, no
    cost and ``model_calls == 0``, which is how a caller tells it from a call that was made.
    """

    def __init__(self, inner: Model, cache: Cache, *, ttl_s: float = 7 * 24 * 3_600.0) -> None:
        self._inner = inner
        self._cache = cache
        self._ttl_s = ttl_s

    @property
    def profile(self) -> ModelProfile:
        """That of ``inner``."""
        return self._inner.profile

    async def complete(self, request: ModelRequest) -> ModelReply:
        """The whole reply. See ``ports.Model``."""
        if request.temperature != 0:
            return await self._inner.complete(request)
        key = self._key(request)
        if (known := await self._known(key)) is not None:
            return known
        reply = await self._inner.complete(request)
        await self._keep(key, reply)
        return reply

    async def stream(self, request: ModelRequest) -> AsyncIterator[Delta | ModelReply]:
        """Pieces of text, then the whole reply; a kept reply comes in one piece. See ``ports.Model``."""
        key = self._key(request) if request.temperature == 0 else None
        if key is not None and (known := await self._known(key)) is not None:
            if known.text:
                yield Delta(text=known.text)
            yield known
            return
        async with closing(self._inner.stream(request)) as items:
            async for item in items:
                if key is not None and isinstance(item, ModelReply):
                    await self._keep(key, item)
                yield item

    async def aclose(self) -> None:
        """Closes ``inner``; the cache belongs to others."""
        await self._inner.aclose()

    def _key(self, request: ModelRequest) -> str:
        return f"model:{request_hash(request, self._inner.profile.name)}"

    async def _known(self, key: str) -> ModelReply | None:
        try:
            data = await self._cache.get(key)
            return None if data is None else _DECODE(data)
        except (StoreError, msgspec.DecodeError):  # the cache is away, or holds a reply of another version
            return None

    async def _keep(self, key: str, reply: ModelReply) -> None:
        if reply.finish in ("stop", "tool_calls"):
            kept = msgspec.structs.replace(reply, usage=Usage(), is_price_known=True)
            with contextlib.suppress(StoreError):
                await self._cache.put(key, _ENCODE(kept), ttl_s=self._ttl_s)
