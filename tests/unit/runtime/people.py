"""Runs that ask people, from the first question to the end."""

from __future__ import annotations

import asyncio

from collegium.app import Run
from collegium.domain.report import RunReport
from collegium.domain.run import Approval


async def waiting(run: Run) -> Run:
    """``run``, once it waits for a person."""
    assert (await asyncio.wait_for(run.result(), 20)).status == "waiting"
    return run


async def ended(run: Run) -> RunReport:
    """The report of a run that waits for nobody any more."""
    report = await asyncio.wait_for(run.result(), 20)
    assert report.status != "waiting", report
    return report


async def asked(run: Run) -> Approval:
    """The one question that is open."""
    (question,) = (await run.state()).open_approvals
    return question
