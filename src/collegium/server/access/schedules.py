"""Schedules as one principal may see and change them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Literal

import msgspec

from collegium.app import Collegium
from collegium.domain.document import GivenFile
from collegium.domain.errors import Changed
from collegium.domain.principal import Principal
from collegium.domain.schedule import Firing, MissedPolicy, OverlapPolicy, Schedule, paused, resumed
from collegium.domain.usage import Limits
from collegium.runtime.cron import Cron
from collegium.server.access.deeds import noted
from collegium.server.access.page import Page, cursor, place
from collegium.server.access.reach import Reach


class NewSchedule(msgspec.Struct, frozen=True, kw_only=True):
    """A goal that is to come again; see ``Schedules.add``."""

    cron: str
    goal: str
    tz: str = "UTC"
    name: str = ""
    missed: MissedPolicy = "once"
    overlap: OverlapPolicy = "skip"
    jitter_s: float = 0.0
    files: Sequence[GivenFile] = ()
    model: str | None = None
    limits: Limits | None = None
    priority: int = 2
    tools: tuple[str, ...] = ()
    project: str = ""


class ScheduleShown(msgspec.Struct, frozen=True, kw_only=True):
    """A schedule, when it comes next, and what became of its last times."""

    schedule_id: str
    name: str
    status: Literal["active", "paused"]
    paused: str | None
    cron: str
    tz: str
    next_at: datetime | None
    missed: MissedPolicy
    overlap: OverlapPolicy
    jitter_s: float
    goal: str
    model: str
    project: str
    added_at: datetime
    added_by: str
    failures: int
    last_run: str | None
    firings: tuple[Firing, ...]
    etag: str


class ScheduleAccess:
    """The schedules of the principal's tenant; those of others are not there (``NotFound``)."""

    def __init__(self, app: Collegium, principal: Principal) -> None:
        self._app = app
        self._schedules = app.schedules
        self._principal = principal
        self._tenant = principal.tenant
        self._reach = Reach(app, principal)

    async def add(self, wanted: NewSchedule) -> ScheduleShown:
        """Keeps it; raises as ``Schedules.add`` does."""
        self._principal.require("runs:write")
        wanted = msgspec.structs.replace(wanted, project=self._reach.project(wanted.project))
        made = await self._schedules.add(
            **msgspec.structs.asdict(wanted), tenant=self._tenant, principal=self._principal
        )
        await self._note("added", made.id)
        return await self._shown(made)

    async def page(self, *, after: str | None = None, limit: int = 50) -> Page[ScheduleShown]:
        """Schedules, the oldest first."""
        self._principal.require("runs:read")
        behind = place("schedules", after)
        start = str(behind[0]) if behind else ""
        found = await self._schedules.all(tenant=self._tenant, after=start, limit=limit + 1)
        every = [await self._shown(one) for one in found[:limit]]
        following = cursor("schedules", every[-1].schedule_id) if len(found) > limit else None
        return Page(items=[one for one in every if self._reach.has(one.project)], next=following)

    async def show(self, schedule: str) -> ScheduleShown:
        """The schedule."""
        self._principal.require("runs:read")
        return await self._shown(await self._get(schedule))

    async def pause(self, schedule: str, *, reason: str = "", if_match: str | None = None) -> ScheduleShown:
        """Lets it rest. Raises ``Changed`` when it is another than ``if_match`` says."""
        self._principal.require("runs:write")
        await self._get(schedule)

        def rest(found: Schedule) -> Schedule | None:
            check(found, if_match)
            return paused(found, reason or "by hand")

        made = await self._schedules.change(schedule, rest)
        await self._note("paused", schedule, reason)
        return await self._shown(made)

    async def resume(self, schedule: str, *, if_match: str | None = None) -> ScheduleShown:
        """Lets it go on with its next time. Raises ``Changed`` as ``pause`` does."""
        self._principal.require("runs:write")
        await self._get(schedule)

        def go_on(found: Schedule) -> Schedule | None:
            check(found, if_match)
            return None if found.paused is None else resumed(found, Cron(found.cron, found.tz).next(self._app.now()))

        made = await self._schedules.change(schedule, go_on)
        await self._note("resumed", schedule)
        return await self._shown(made)

    async def remove(self, schedule: str, *, if_match: str | None = None) -> None:
        """Removes it; its runs stay. Raises ``Changed`` as ``pause`` does."""
        self._principal.require("runs:write")
        check(await self._get(schedule), if_match)
        await self._schedules.remove(schedule, tenant=self._tenant)
        await self._note("removed", schedule)

    async def _get(self, schedule: str) -> Schedule:
        found = await self._schedules.get(schedule, tenant=self._tenant)
        if not self._reach.has((await self._schedules.goal(found)).project):
            self._reach.known("schedule", schedule)
        return found

    async def _shown(self, found: Schedule) -> ScheduleShown:
        goal = await self._schedules.goal(found)
        return ScheduleShown(
            schedule_id=found.id,
            name=found.name,
            status="active" if found.paused is None else "paused",
            paused=found.paused,
            cron=found.cron,
            tz=found.tz,
            next_at=found.next_at if found.paused is None else None,
            missed=found.missed,
            overlap=found.overlap,
            jitter_s=found.jitter_s,
            goal=goal.text,
            model=goal.model,
            project=goal.project,
            added_at=found.added_at,
            added_by=found.added_by,
            failures=found.failures,
            last_run=found.last_run,
            firings=found.firings,
            etag=etag(found),
        )

    async def _note(self, done: str, schedule: str, reason: str = "") -> None:
        await noted(self._app, self._principal, f"schedules.{done}", schedule, rule="runs:write", reason=reason)


def etag(found: Schedule) -> str:
    """The entity tag of a schedule as it is: another one after every change."""
    return '"' + hashlib.sha256(msgspec.json.encode(found)).hexdigest()[:24] + '"'


def check(found: Schedule, if_match: str | None) -> None:
    """Raises ``Changed`` unless ``if_match`` is left out, ``*`` or names the schedule as it is."""
    if if_match is None or if_match.strip() == "*":
        return
    if etag(found) not in {tag.strip() for tag in if_match.split(",")}:
        raise Changed(
            f"the schedule {found.id} was changed since it was read: read it again", schedule=found.id, etag=etag(found)
        )
