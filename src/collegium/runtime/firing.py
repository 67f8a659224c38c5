"""Firing: whichever worker is there looks once a second which schedules are due, and submits their goals.

Any number of workers may do so at once. A due time is taken by compare-and-set before anything is done for it; its run
is submitted under a key that is made of schedule and due time, so that it is the same run whoever submits it again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime
from typing import Final

import msgspec

from collegium.domain.errors import CollegiumError, Conflict, NotFound, StoreError, UsageError
from collegium.domain.goal import Goal
from collegium.domain.head import FINISHED
from collegium.domain.record import Record
from collegium.domain.schedule import (
    MAX_MISSED,
    Firing,
    Schedule,
    amended,
    due_us,
    moved,
    run_key,
    settled,
    taken,
    us_of,
    wanted,
)
from collegium.ports import Clock, Journal
from collegium.runtime.cron import Cron
from collegium.runtime.schedules import PAGE, Schedules, read

SWEEP_S: Final = 1.0
_MAX_REASON: Final = 500
_log = logging.getLogger("collegium.schedules")
Accept = Callable[[Goal, str, str], Awaitable[str]]
"""``accept(goal, tenant, key)`` submits a goal once for all calls with the same key, and gives the run's id."""


class Firer:
    """Fires what is due, once a second, from ``start`` to ``end``."""

    def __init__(self, schedules: Schedules, accept: Accept, *, journal: Journal, clock: Clock) -> None:
        self._schedules = schedules
        self._accept = accept
        self._journal = journal
        self._clock = clock
        self._task: asyncio.Task[None] | None = None
        self._unreadable: set[tuple[str, int]] = set()

    async def start(self) -> None:
        """Begins to look; twice is harmless."""
        if self._task is None:
            self._task = asyncio.create_task(self._look())

    async def end(self) -> None:
        """Looks no more. A due time that was taken and not settled is seen to by the next worker."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def sweep(self) -> None:
        """Sees to every schedule that is due now. Raises ``StoreError``: what is left comes with the next sweep."""
        after, now = "", self._clock.now()
        while page := await self._schedules.due(now, after=after):
            for record in page:
                with suppress(Conflict, NotFound):  # somebody else was faster, or it was removed
                    await self._see_to(record)
            after = page[-1].key
            if len(page) < PAGE:
                break

    async def _look(self) -> None:
        is_away = False
        while True:
            try:
                await self.sweep()
                is_away = False
            except StoreError as error:
                if not is_away:
                    _log.warning("schedules cannot be looked at, it is tried every %g s: %s", SWEEP_S, error)
                is_away = True
            await self._clock.sleep(SWEEP_S)

    async def _see_to(self, record: Record) -> None:
        """Sees to all times of a schedule that have come, one after the other."""
        try:
            schedule = read(record)
            cron = Cron(schedule.cron, schedule.tz)
        except (msgspec.ValidationError, UsageError) as error:
            # Of a newer version, or in a time zone that is not known here: left to a worker that can read it.
            if (record.key, record.version) not in self._unreadable:
                self._unreadable.add((record.key, record.version))
                _log.warning("the schedule %s is left to others: %s", record.key, error)
            return
        for _ in range(MAX_MISSED + 1):
            after = await self._step(schedule, cron)
            if after is None or after.due_us is None or after.due_us > us_of(self._clock.now()):
                return
            schedule = after

    async def _step(self, schedule: Schedule, cron: Cron) -> Schedule | None:
        """``schedule`` with its first due time seen to; None where that has to wait."""
        found = schedule if schedule.taken_at is not None else await self._take(schedule, cron)
        if found is None or found.taken_at is None:
            return found
        # From here on nothing is decided any more: whoever comes to this point does the same.
        due_at = found.taken_at
        firing = await self._fire(found, due_at)

        def settle(now: Schedule) -> Schedule | None:
            if now.taken_at == due_at:
                return moved(settled(now, firing), cron.next(due_at))
            return amended(now, firing)  # somebody else has settled it

        return await self._schedules.change(schedule.id, settle)

    async def _take(self, schedule: Schedule, cron: Cron) -> Schedule | None:
        """``schedule`` with the time that its policies choose taken, or let go; None while that waits for a run."""
        now = self._clock.now()
        times = tuple(
            t
            for t in cron.newest(schedule.next_at, now, MAX_MISSED + 1)
            if due_us(schedule.id, t, schedule.jitter_s) <= us_of(now)
        )
        due_at, let_go = wanted(schedule, times or (schedule.next_at,), now)
        busy = None if due_at is None else await self._busy(schedule)
        if busy is not None and schedule.overlap == "queue":
            return None
        after = taken(schedule, due_at, let_go, now)
        if due_at is None:
            after = moved(after, cron.next(let_go or now))
        elif busy is not None:
            skipped = Firing(due_at=due_at, outcome="skipped", at=now, reason=busy)
            after = moved(settled(after, skipped), cron.next(due_at))

        def take(found: Schedule) -> Schedule:
            if found != schedule:
                raise Conflict(f"the schedule {found.id} was changed meanwhile", schedule=found.id)
            return after

        return await self._schedules.change(schedule.id, take)

    async def _busy(self, schedule: Schedule) -> str | None:
        """Why no run may begin now: the one before goes on."""
        if schedule.overlap == "allow" or schedule.last_run is None:
            return None
        head = await self._journal.head(schedule.last_run)
        if head is None or head.status in FINISHED:
            return None
        return f"{schedule.last_run} is still {head.status}"

    async def _fire(self, schedule: Schedule, due_at: datetime) -> Firing:
        """What became of a due time that was taken."""
        try:
            goal = await self._schedules.goal(schedule)
            run = await self._accept(goal, schedule.tenant, run_key(schedule.id, due_at))
        except StoreError:
            raise  # it says nothing about the schedule: the same time is tried again
        except CollegiumError as error:
            reason = error.message[:_MAX_REASON]
            _log.warning("the schedule %s could not make a run: %s", schedule.id, reason)
        except Exception as error:  # noqa: BLE001  a fault that one schedule meets must not end the look for all others
            reason = f"internal error: {type(error).__name__}: {error}"[:_MAX_REASON]
            _log.exception("the schedule %s could not make a run", schedule.id)
        else:
            return Firing(due_at=due_at, outcome="submitted", at=self._clock.now(), run=run)
        return Firing(due_at=due_at, outcome="failed", at=self._clock.now(), reason=reason)
