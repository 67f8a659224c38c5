"""Duty: what a process that works does all the time, beside the work itself."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any

from collegium.domain.errors import NotFound, StoreError, StoreFull, StoreUnavailable
from collegium.domain.head import HeadQuery
from collegium.ports import Clock, Journal, Presence
from collegium.runtime.audit import Checkpoints
from collegium.runtime.outages import Outages, shard_away
from collegium.runtime.recovery import Recovery
from collegium.runtime.scheduler import Scheduler
from collegium.runtime.worker import Worker

SWEEP_S = 1.0
_log = logging.getLogger("collegium.duty")
Scope = Callable[[], frozenset[str] | None]
"""The runs that are looked after; None for all of the store."""


class Duty:
    """Shows that the worker lives, looks after due runs and dead workers, and ends what others have taken or cancelled.

    Args:
        grace_s: How long the end waits for what does not let itself be ended at once.
        chores: What else is done once a second.
        checkpoints: Written every few seconds, and once more at the end.
    """

    def __init__(
        self,
        worker: Worker,
        *,
        recovery: Recovery,
        scheduler: Scheduler,
        journal: Journal,
        presence: Presence,
        clock: Clock,
        scope: Scope,
        grace_s: float,
        chores: Sequence[Callable[[], Awaitable[object]]] = (),
        checkpoints: Checkpoints,
    ) -> None:
        self._worker = worker
        self._recovery = recovery
        self._scheduler = scheduler
        self._journal = journal
        self._presence = presence
        self._clock = clock
        self._scope = scope
        self._grace_s = grace_s
        self._chores = (*chores, checkpoints.write_due)
        self.company: Sequence[Callable[[], Coroutine[Any, Any, None]]] = ()
        """What goes on beside the work, from its start to its end."""
        self._checkpoints = checkpoints
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, *, is_claiming: bool = True) -> None:
        """Announces the worker and starts to work, on what it claims or is given; twice is harmless."""
        if self._tasks:
            return
        await self._presence.announce(self._worker.id)
        self._tasks = [asyncio.create_task(self._tick()), asyncio.create_task(self._look_after())]
        if is_claiming:
            self._tasks.append(asyncio.create_task(self._work()))
            self._tasks += [asyncio.create_task(one()) for one in self.company]

    async def end(self) -> None:
        """Parks what is being worked on, stores it, and stops."""
        if not self._tasks:
            return
        await self._worker.drain(self._grace_s)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        await self._leave()

    async def over(self) -> None:
        """Returns when the work has ended; raises what has ended it, if anything has."""
        await asyncio.wait(self._tasks, return_when=asyncio.FIRST_EXCEPTION)
        self.raise_failed()

    async def look(self, run: str) -> None:
        """Ends what is done of ``run``, should it be cancelled, or taken by others."""
        if run in self._worker.runs:
            await self._end_lost((run,))

    def raise_failed(self) -> None:
        """Raises what has ended the work, if anything has."""
        for task in self._tasks:
            if task.done() and not task.cancelled():
                with suppress(asyncio.InvalidStateError):
                    error = task.exception()
                    if error is not None:
                        raise error

    async def _leave(self) -> None:
        """Withdraws the worker, unless it leaves attempts that could not be closed: then it has to be found dead."""
        with suppress(StoreError):  # whoever comes next signs it
            await self._checkpoints.write()
        try:
            is_clean = not await self._journal.heads(HeadQuery(worker=self._worker.id, limit=1))
        except StoreError:
            is_clean = False
        if is_clean:
            await self._presence.withdraw(self._worker.id)
        else:
            await self._presence.abandon(self._worker.id)

    async def _tick(self) -> None:
        while True:
            await self._clock.sleep(self._presence.tick())

    async def _work(self) -> None:
        while True:
            try:
                return await self._worker.work()
            except (StoreFull, StoreUnavailable) as error:
                self._bear(error)
            await self._clock.sleep(SWEEP_S)

    def _bear(self, error: StoreError) -> None:
        """Nothing, where this process works for everybody: it goes on when there is room again. Else raises ``error``.

        Whoever waits for runs of this process alone is told instead: they can be resumed.
        """
        if self._scope() is not None:
            raise error
        _log.warning("the store takes nothing, it is tried again in %g s: %s", SWEEP_S, error)

    async def _look_after(self) -> None:
        """Looks for dead workers as often as beats come, and for due runs once a second."""
        swept_s = float("-inf")
        look_s = min(SWEEP_S, self._presence.tick())
        while True:
            steps: list[Callable[[], Awaitable[object]]] = [self._bury]
            if self._clock.monotonic() - swept_s >= SWEEP_S - look_s / 2:
                swept_s = self._clock.monotonic()
                steps += [self._lapse_lost, self._sweep, self._end_lost, *self._chores]
            for step in steps:
                try:
                    await step()
                except StoreUnavailable as error:
                    _log.warning("the store is away, it is looked at again in %g s: %s", look_s, error)
                    if shard_away(error) is None:
                        break  # all of it
                except StoreFull as error:
                    self._bear(error)
                    break
            await self._clock.sleep(look_s)

    async def _bury(self) -> None:
        for run, task in (await self._recovery.bury(self._scope())) & self._worker.held:
            # It waits for a process of its own that hangs: ended, that process is a dead one like any other.
            await self._worker.interrupt(run, task=task)

    async def _lapse_lost(self) -> None:
        await self._recovery.lapse_lost(self._worker.id, lambda: self._worker.held)

    async def _sweep(self) -> None:
        await self._recovery.sweep(self._scope())

    async def _end_lost(self, runs: Sequence[str] | None = None) -> None:
        """Ends the work on runs that another process has cancelled, and on tasks that another worker has taken."""
        outages = Outages()
        for run in sorted(self._worker.runs) if runs is None else runs:
            if outages.hit(run):
                continue
            try:
                head = await self._journal.head(run)
                if head is None:
                    continue
                known = await self._scheduler.load(run)
                if head.deciding_seq > known.deciding_seq:
                    known = await self._scheduler.load(run, is_fresh=True)
            except NotFound:
                continue
            except StoreUnavailable as error:
                outages.bear(error)
                continue
            if head.status == "cancelling":
                await self._worker.interrupt(run)
                continue
            for task, attempt in self._worker.started(run).items():
                now = known.tasks.get(task)
                if now is not None and (now.attempt > attempt or not now.is_open):
                    await self._worker.interrupt(run, task=task)
