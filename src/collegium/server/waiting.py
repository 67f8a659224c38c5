"""Waiting for a run: until it has ended or waits for a person, or for whatever comes, as long as one may."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress

from collegium.domain.event import Event
from collegium.domain.head import FINISHED
from collegium.domain.report import RunReport
from collegium.server.access.access import Access
from collegium.server.caller import Authenticator

CHECK_S = 15.0
"""So often whoever looks on is asked whether the credentials still hold."""


async def until_it_rests(access: Access, run: str, *, within_s: float, is_end_only: bool = False) -> RunReport:
    """The report of ``run`` once it has ended or asks something, or as it stands after ``within_s``.

    ``is_end_only``: what it asks is no rest.
    """
    state = await access.runs.state(run)
    rests = {"run.finished"} if is_end_only else {"run.finished", "approval.requested"}
    if state.status not in FINISHED and (is_end_only or not state.open_approvals):
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s), _left(access.live.follow(run, after=state.seq)) as events:
                async for event in events:
                    if event.type in rests:
                        break
    return await access.runs.report(run)


async def while_valid(
    access: Access, authenticator: Authenticator, run: str, *, after: int
) -> AsyncGenerator[Event | None, None]:
    """Events of ``run`` with ``seq > after``, None now and then while there is none.

    It ends when the run has, and where the caller's credentials hold no more.
    """
    coming: asyncio.Future[Event | None] | None = None
    loop = asyncio.get_running_loop()
    check_at_s = loop.time() + CHECK_S
    async with _left(access.live.follow(run, after=after)) as events:
        try:
            while True:
                coming = coming or asyncio.ensure_future(_next(events))
                await asyncio.wait((coming,), timeout=max(0.0, check_at_s - loop.time()))
                if loop.time() >= check_at_s:
                    check_at_s = loop.time() + CHECK_S
                    if not await authenticator.still_valid(access.principal):
                        return
                if not coming.done():
                    yield None
                    continue
                event, coming = coming.result(), None
                if event is None:
                    return
                yield event
        finally:
            if coming is not None:
                coming.cancel()
                await asyncio.gather(coming, return_exceptions=True)


async def _next(follower: AsyncIterator[Event]) -> Event | None:
    return await anext(follower, None)


@asynccontextmanager
async def _left(events: AsyncIterator[Event]) -> AsyncIterator[AsyncIterator[Event]]:
    """``events``, whose place among those who look on is given back at once when the block is left."""
    try:
        yield events
    finally:
        if isinstance(events, AsyncGenerator):
            await events.aclose()
