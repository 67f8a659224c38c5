"""Schedules: added, looked at, paused, resumed, removed. What fires them is ``runtime.firing``.

A schedule is kept in two records. What it is to do is one of its tenant's, which never changes; the files that it names
are kept as long as it is there. When it comes next is one among those of all tenants, so that one look finds all that
are due, however many tenants there are.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime
from typing import Final

import msgspec

from collegium.domain.document import GivenFile
from collegium.domain.errors import Conflict, NotFound, UnknownName, UsageError, WrongState
from collegium.domain.goal import Goal, check_text
from collegium.domain.ids import Ids
from collegium.domain.principal import Principal, name_of, rights_of
from collegium.domain.record import Condition, Record
from collegium.domain.schedule import (
    MissedPolicy,
    OverlapPolicy,
    Schedule,
    due_us,
    paused,
    principal_of,
    resumed,
    us_of,
)
from collegium.domain.usage import Limits
from collegium.ports import Clock, Records
from collegium.runtime.cron import Cron
from collegium.runtime.intake import Intake

KIND, TENANT, GOAL = "schedule", "~schedules", "schedule_goal"
"""Kind and tenant of the records that say when, and the kind of those that say what."""
PAGE: Final = 100
_MAX_NAME: Final = 80
_MIN_PART: Final = 4
Change = Callable[[Schedule], Schedule | None]
"""What becomes of a schedule; None for nothing. Asked again when somebody else was faster."""


class Schedules:
    """The schedules of all tenants.

    Args:
        records: Where they are kept.
        intake: Takes the files of their goals.
        clock: Tells what comes next.
        ids: Names them.
        default_model: For goals that name none; kept with the schedule, so that its runs do not depend on who fires.
        limits: For goals that bring none.
    """

    def __init__(
        self, records: Records, *, intake: Intake, clock: Clock, ids: Ids, default_model: str, limits: Limits
    ) -> None:
        self._records = records
        self._intake = intake
        self._clock = clock
        self._ids = ids
        self._default_model = default_model
        self._limits = limits

    async def add(
        self,
        cron: str,
        goal: str,
        *,
        tz: str = "UTC",
        name: str = "",
        missed: MissedPolicy = "once",
        overlap: OverlapPolicy = "skip",
        jitter_s: float = 0.0,
        files: Sequence[str | GivenFile] = (),
        model: str | None = None,
        limits: Limits | None = None,
        priority: int = 2,
        tools: Sequence[str] = (),
        tenant: str = "default",
        principal: str | Principal = "local",
        project: str = "",
    ) -> Schedule:
        """Keeps a goal that comes again, durably; its files are taken now, so that it can be done anywhere.

        Args:
            cron: Five fields, or a name such as ``@daily``; see ``Cron``.
            goal: In the user's words.
            tz: Name of the time zone that ``cron`` is meant in.
            name: What people may call it; no two of a tenant have the same.
            missed: What happens to times at which no worker was there; see ``Schedule``.
            overlap: What happens when the run before goes on; see ``Schedule``.
            jitter_s: Each time is put off by up to so much.
            files: Paths of files and folders, or files that were read already.
            model: Name of the model for agents that name none.
            limits: Caps of each of its runs.
            priority: 0 (urgent) to 3 (low).
            tools: Names of tools that every agent may use beside its own.
            tenant: Whose runs they are.
            principal: Who adds it. Its runs are asked for by ``schedule:ID``, and have the rights of a ``Principal``.
            project: What its runs belong to within the tenant.

        Raises:
            UsageError: an expression, a time zone, a name or a policy that cannot be, an empty goal, unusable files.
        """
        times, text = Cron(cron, tz), check_text(goal)
        now = self._clock.now()
        first = times.next(now)
        _check_policies(times, first, missed=missed, overlap=overlap, jitter_s=jitter_s)
        await self._check_name(tenant, name)
        given, skipped = await self._intake.take(files, tenant)
        id_ = self._ids.new("sch")
        wanted = Goal(
            text=text,
            principal=principal_of(id_),
            scopes=rights_of(principal),
            project=project,
            files=given,
            skipped=skipped,
            model=model or self._default_model,
            tools=tuple(tools),
            limits=limits or self._limits,
            priority=priority,
        )
        schedule = Schedule(
            id=id_,
            tenant=tenant,
            name=name,
            cron=times.expression,
            tz=tz,
            missed=missed,
            overlap=overlap,
            jitter_s=jitter_s,
            added_at=now,
            added_by=name_of(principal),
            next_at=first,
            due_us=due_us(id_, first, jitter_s),
        )
        # The goal first: one that is never due costs its files, a schedule without a goal could not be done.
        value = msgspec.to_builtins(wanted)
        await self._records.put(Record(kind=GOAL, tenant=tenant, key=id_, value=value), expected=0)
        await self._records.put(_record(schedule), expected=0)
        return schedule

    async def get(self, schedule: str, *, tenant: str = "default") -> Schedule:
        """The schedule of that id. Raises ``NotFound``, also for another tenant's."""
        record = await self._records.get(KIND, TENANT, schedule)
        if record is None or record.value.get("tenant") != tenant:
            raise NotFound(f"there is no schedule {schedule}", schedule=schedule)
        return read(record)

    async def find(self, text: str, *, tenant: str = "default") -> Schedule:
        """The schedule that ``text`` means: its name, its id, or a part of it that no other one has.

        Raises ``UnknownName`` with those that there are, ``UsageError`` for a part that several have.
        """
        every = [s async for s in self.each(tenant)]
        named = [s for s in every if text and text in (s.name, s.id)]
        found = named or [s for s in every if len(text) >= _MIN_PART and text.lower() in s.id]
        if len(found) == 1:
            return found[0]
        shown = ", ".join(s.name or s.id for s in (found or every)[:5])
        if found:
            raise UsageError(f"{len(found)} schedules have {text!r} in their id: {shown}; give more of it")
        hint = f"there is {shown}" if shown else "there is none yet; `collegium schedules add` makes one"
        raise UnknownName(f"there is no schedule {text!r}: {hint}", schedule=text)

    async def goal(self, schedule: Schedule) -> Goal:
        """What it is to do. Raises ``NotFound`` when it was removed meanwhile."""
        record = await self._records.get(GOAL, schedule.tenant, schedule.id)
        if record is None:
            raise NotFound(f"the schedule {schedule.id} has no goal any more: remove it", schedule=schedule.id)
        return msgspec.convert(record.value, Goal)

    async def all(self, *, tenant: str = "default", after: str = "", limit: int = PAGE) -> tuple[Schedule, ...]:
        """The schedules of ``tenant`` by id, which is the order they were added in, with ``id > after``."""
        mine = Condition(field="tenant", op="=", value=tenant)
        found = await self._records.find(KIND, TENANT, [mine], after=after, limit=limit)
        return tuple(map(read, found))

    async def each(self, tenant: str = "default") -> AsyncIterator[Schedule]:
        """All schedules of ``tenant``, page by page."""
        after = ""
        while page := await self.all(tenant=tenant, after=after):
            for schedule in page:
                yield schedule
            after = page[-1].id
            if len(page) < PAGE:
                return

    async def due(self, now: datetime, *, after: str = "", limit: int = PAGE) -> tuple[Record, ...]:
        """The records of schedules of all tenants that have to be looked at, by id."""
        has_come = Condition(field="due_us", op="<=", value=us_of(now))
        return await self._records.find(KIND, TENANT, [has_come], after=after, limit=limit)

    async def pause(self, schedule: str, *, reason: str = "", tenant: str = "default") -> Schedule:
        """Lets it rest until it is resumed, whoever comes and goes; a run under way goes on. Raises ``NotFound``."""
        await self.get(schedule, tenant=tenant)
        return await self.change(schedule, lambda s: paused(s, reason or "by hand"))

    async def resume(self, schedule: str, *, tenant: str = "default") -> Schedule:
        """Lets it go on with the next time; those that passed meanwhile are let go. Raises ``NotFound``."""
        await self.get(schedule, tenant=tenant)

        def go_on(found: Schedule) -> Schedule | None:
            if found.paused is None:
                return None
            return resumed(found, Cron(found.cron, found.tz).next(self._clock.now()))

        return await self.change(schedule, go_on)

    async def remove(self, schedule: str, *, tenant: str = "default") -> None:
        """Removes it and lets go of its files; its runs stay. Raises ``NotFound``."""
        await self.get(schedule, tenant=tenant)
        await self._records.delete(KIND, TENANT, schedule)
        await self._records.delete(GOAL, tenant, schedule)

    async def change(self, schedule: str, change: Change) -> Schedule:
        """Stores what ``change`` makes of it; as it is now where that is nothing. Raises ``NotFound``."""
        while True:
            record = await self._records.get(KIND, TENANT, schedule)
            if record is None:
                raise NotFound(f"there is no schedule {schedule}", schedule=schedule)
            found = read(record)
            after = change(found)
            if after is None or after == found:
                return found
            try:
                await self._records.put(_record(after), expected=record.version)
            except Conflict:
                continue
            return after

    async def _check_name(self, tenant: str, name: str) -> None:
        if not name:
            return
        if len(name) > _MAX_NAME or not name.isprintable() or name.strip() != name:
            raise UsageError(
                f"the name {name[:_MAX_NAME]!r} cannot be: at most {_MAX_NAME} printable characters", name=name
            )
        same = Condition(field="name", op="=", value=name)
        mine = Condition(field="tenant", op="=", value=tenant)
        if found := await self._records.find(KIND, TENANT, [mine, same], limit=1):
            raise WrongState(f"the schedule {found[0].key} has the name {name!r} already: take another", name=name)


def read(record: Record) -> Schedule:
    """The schedule of a record."""
    return msgspec.convert(record.value, Schedule)


def _record(schedule: Schedule) -> Record:
    return Record(kind=KIND, tenant=TENANT, key=schedule.id, value=msgspec.to_builtins(schedule))


def _check_policies(
    times: Cron, first: datetime, *, missed: MissedPolicy, overlap: OverlapPolicy, jitter_s: float
) -> None:
    if missed == "all" and overlap == "skip":
        raise UsageError(
            "missed=all goes with overlap=queue or overlap=allow: with skip, only the first missed one would run"
        )
    between_s = (times.next(first) - first).total_seconds()
    if not 0 <= jitter_s < between_s:
        raise UsageError(
            f"the jitter of {jitter_s:g} s cannot be: at least 0 and less than the {between_s:g} s between two times",
            jitter_s=jitter_s,
        )
