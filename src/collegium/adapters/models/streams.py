"""Streams of replies, closed where they are left."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

from collegium.domain.chat import Delta, ModelReply

Items = AsyncIterator[Delta | ModelReply]


@asynccontextmanager
async def closing(items: Items) -> AsyncIterator[Items]:
    """``items``, closed at the end of the block: a wrapper that is left early ends the call at the provider at once."""
    try:
        yield items
    finally:
        if isinstance(items, AsyncGenerator):
            await items.aclose()
