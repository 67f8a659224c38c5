"""Waiting for a run until it has ended or waits for a person."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from collegium.domain.head import FINISHED
from collegium.domain.report import RunReport
from collegium.server.access.access import Access


async def until_it_rests(access: Access, run: str, *, within_s: float, is_end_only: bool = False) -> RunReport:
    """The report of ``run`` once it has ended or asks something, or as it stands after ``within_s``.

    ``is_end_only``: what it asks is no rest.
    """
    state = await access.runs.state(run)
    rests = {"run.finished"} if is_end_only else {"run.finished", "approval.requested"}
    if state.status not in FINISHED and (is_end_only or not state.open_approvals):
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                async for event in access.live.follow(run, after=state.seq):
                    if event.type in rests:
                        break
    return await access.runs.report(run)
