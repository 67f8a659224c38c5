"""What models are saying, among the events of a run, while somebody looks on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, Final

from collegium.domain.event import Event
from collegium.server.access.access import Access
from collegium.server.live.change import Token

_END: Final = object()


async def with_pieces(
    access: Access, run: str, events: AsyncGenerator[Event | None, None]
) -> AsyncGenerator[Event | Token | None, None]:
    """``events``, and between them pieces of replies that are being written; it ends with ``events``.

    Pieces are for looking on: some may be missing, and the durable event takes the place of all of them. Whoever may
    not read topics is given none.
    """
    if not access.principal.may("topics:read"):
        async for event in events:
            yield event
        return
    changes = access.live.changes(f"runs.{run}.deltas")
    coming: asyncio.Future[Any] = asyncio.ensure_future(_next(events))
    saying: asyncio.Future[Any] = asyncio.ensure_future(_next(changes))
    try:
        while True:
            await asyncio.wait((coming, saying), return_when=asyncio.FIRST_COMPLETED)
            if saying.done():
                if isinstance(saying.result().value, Token):
                    yield saying.result().value
                saying = asyncio.ensure_future(_next(changes))
            if coming.done():
                event = coming.result()
                if event is _END:
                    return
                yield event
                coming = asyncio.ensure_future(_next(events))
    finally:
        for one in (coming, saying):
            one.cancel()
        await asyncio.gather(coming, saying, return_exceptions=True)
        if isinstance(changes, AsyncGenerator):
            await changes.aclose()


async def _next(source: Any) -> Any:
    return await anext(source, _END)
