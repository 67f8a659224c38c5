"""Following a run to its end, and showing how it goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from collegium.domain.report import RunReport

if TYPE_CHECKING:
    from collegium.app import Run
    from collegium.cli.display import Display


async def follow(run: Run, display: Display) -> RunReport:
    """The report of ``run`` once it has ended or waits for a person; every event is shown as it comes."""
    async for event in run.events():
        display.take(event)
    return await run.result()
