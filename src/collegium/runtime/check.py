"""What a new version of agents and tools means for runs that are under way."""

from __future__ import annotations

import msgspec

from collegium.domain.errors import NotFound, StoreCorrupt
from collegium.domain.head import LIVE, Head, HeadQuery, RunStatus
from collegium.domain.run import RunState
from collegium.ports import Journal
from collegium.runtime.heads import heads_of
from collegium.runtime.pins import Difference, Pins
from collegium.runtime.scheduler import Scheduler

_PAGE = 200


class LiveRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run under way that is not as it would be if it began now.

    Attributes:
        differences: Its pins that are not what there is now.
        breaks: Why it cannot go on here, None when it can.
    """

    run: str
    status: RunStatus
    differences: tuple[Difference, ...] = ()
    breaks: str | None = None


async def check_live(
    journal: Journal, scheduler: Scheduler, pins: Pins, *, tenant: str
) -> tuple[int, tuple[LiveRun, ...]]:
    """How many runs are under way, and those among them that differ, newest first."""
    query = HeadQuery(tenant=tenant, statuses=LIVE, limit=_PAGE)
    seen, found = 0, []
    async for head in heads_of(journal, query):
        seen += 1
        checked = await check_run(head, scheduler, pins)
        if checked.differences or checked.breaks is not None:
            found.append(checked)
    return seen, tuple(found)


async def check_run(head: Head, scheduler: Scheduler, pins: Pins) -> LiveRun:
    """How a run that is under way differs from one that would begin now, and whether it can go on here."""
    try:
        state = await scheduler.load(head.run, is_fresh=True)
    except (StoreCorrupt, NotFound) as error:
        return LiveRun(run=head.run, status=head.status, breaks=error.message)
    differences = await pins.compare(state.tenant, state.pins)
    breaks = await _breaks(state, pins) if differences else None
    return LiveRun(run=head.run, status=head.status, differences=differences, breaks=breaks)


async def _breaks(state: RunState, pins: Pins) -> str | None:
    """What keeps an unsettled task from going on; before there is a plan, any task may come."""
    roster = await pins.roster(state.tenant, state.pins)
    if state.plan is None:
        return next((g for a in roster if (g := pins.gone(state, (*a.tools, *state.goal.tools), ()))), None)
    for task in state.tasks.values():
        if task.is_settled:
            continue
        able = roster.able(task.task.capability)
        if not able:
            return f"no agent has the capability {task.task.capability!r} of task {task.task.id!r} any more"
        for agent in able:
            gone = pins.gone(state, (*agent.tools, *state.goal.tools), task.task.tools)
            if gone is not None:
                return gone
    return None
