"""Waiting for a run until it has ended or waits for a person."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from collegium.domain.head import FINISHED
from collegium.domain.report import RunReport
from collegium.server.access.access import Access

_RESTS = frozenset({"run.finished", "approval.requested"})


async def until_it_rests(access: Access, run: str, *, within_s: float) -> RunReport:
    """The report of ``run`` once it has ended or asks something, or as it stands after ``within_s``."""
    state = await access.runs.state(run)
    if state.status not in FINISHED and not state.open_approvals:
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                async for event in access.live.follow(run, after=state.seq):
                    if event.type in _RESTS:
                        break
    return await access.runs.report(run)
