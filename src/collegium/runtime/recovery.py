"""Recovery: runs that nobody looks after are found by their heads and set going again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from itertools import chain
from math import inf

from collegium.domain import body as b
from collegium.domain.decide import MAX_BARREN_LAPSES, resumed
from collegium.domain.decision import Decision
from collegium.domain.errors import Fenced, NotFound, StoreCorrupt, StoreUnavailable
from collegium.domain.head import Head, HeadQuery
from collegium.domain.run import RunState
from collegium.domain.task import TaskState
from collegium.ports import Clock, Journal, Presence
from collegium.runtime.accounts import is_account
from collegium.runtime.heads import heads_of
from collegium.runtime.left_open import conversation, told
from collegium.runtime.outages import Outages
from collegium.runtime.questions import open_writes
from collegium.runtime.scheduler import Scheduler

_log = logging.getLogger("collegium.recovery")
_FEW_RUNS = 50
"""Up to so many runs are looked at one by one, beyond that the store is asked for all that are due."""
STUCK_LEASES = 10.0
"""A lone process that lives and has been silent for so long hangs: whoever has started it ends it."""
GIVEN_UP_LEASES = 2 * STUCK_LEASES
"""Nobody has ended it: its attempt lapses like any other's."""
Held = Callable[[], frozenset[tuple[str, str]]]
"""Gives ``(run, task)`` of what a worker works on."""


class Recovery:
    """Looks after due runs and the runs of dead workers."""

    def __init__(self, scheduler: Scheduler, *, journal: Journal, presence: Presence, clock: Clock) -> None:
        self._scheduler = scheduler
        self._journal = journal
        self._presence = presence
        self._burying = asyncio.Lock()
        self._clock = clock

    async def sweep(self, only: frozenset[str] | None = None) -> int:
        """Advances what is due; returns how many runs were looked at.

        A run that this code cannot read, or that was written by a newer one, is left to others and holds up nobody; nor
        does a shard that is away.

        Args:
            only: Look after these runs and no others; None for all of the store.
        """
        looked_at, outages = 0, Outages()
        for head in await self._due(only, outages):
            if outages.hit(head.run):
                continue
            try:
                known = await self._scheduler.load(head.run)
                if known.deciding_seq < head.deciding_seq:
                    known = await self._scheduler.load(head.run, is_fresh=True)
                await self._scheduler.advance(head.run)
            except (StoreCorrupt, NotFound, Fenced) as error:
                _log.warning("%s is left alone: %s", head.run, error)
            except StoreUnavailable as error:
                outages.bear(error)
            looked_at += 1
        return looked_at

    async def lapse_lost(self, worker: str, held: Held) -> None:
        """Lapses attempts that the store says are this ``worker``'s and that it does not work on.

        So whatever went wrong while an attempt was started or closed, none stays open with nobody on it.

        Args:
            worker: The worker of this process.
            held: Gives ``(run, task)`` of everything it works on now; asked again at the moment of the decision, since
                an attempt may have started meanwhile.
        """
        outages = Outages()
        for head in await self._all(HeadQuery(worker=worker, may_lack=True)):
            if outages.hit(head.run):
                continue
            try:
                # What this process started it has decided itself: its own memory says whether a closer look is worth
                # it.
                known = await self._scheduler.load(head.run)
                theirs = {(head.run, t.task.id) for t in known.tasks.values() if t.worker == worker}
                if not theirs or theirs - held():
                    await self._lapse(head.run, worker, but=held)
            except StoreUnavailable as error:
                outages.bear(error)

    async def _due(self, only: frozenset[str] | None, outages: Outages) -> list[Head]:
        now = self._clock.now()
        if only is None or len(only) > _FEW_RUNS:
            # A process may have begun very many runs that wait; of those few are due at any moment.
            due = await self._all(HeadQuery(due_before=now, may_lack=True))
            return [head for head in due if only is None or head.run in only]
        due = []
        for run in only:
            try:
                head = None if outages.hit(run) else await self._journal.head(run)
            except StoreUnavailable as error:
                outages.bear(error)
                continue
            if head is not None and head.wake_at is not None and head.wake_at <= now:
                due.append(head)
        return due

    async def _all(self, query: HeadQuery) -> list[Head]:
        """Every page of ``query``: a run further down must not wait for those before it."""
        found = {h.run: h async for h in heads_of(self._journal, query) if not is_account(h.run)}
        return list(found.values())

    async def resume(self, run: str, principal: str = "local") -> RunState:
        """Sets a run going that was drained or whose worker died. Raises ``NotFound``.

        Parks that wait for a person stay as they are; a finished run is returned as it is.
        """
        await self.bury(frozenset({run}))
        state = await self._scheduler.load(run, is_fresh=True)
        return (
            state
            if state.finished is not None
            else await self._scheduler.propose(run, lambda now: resumed(now, principal))
        )

    async def cancel(self, run: str, requested: b.RunCancelRequested) -> RunState:
        """Asks for the end of a run, once."""

        def proposal(state: RunState) -> Sequence[Decision]:
            return () if state.finished is not None or state.cancel is not None else [Decision(body=requested)]

        return await self._scheduler.propose(run, proposal)

    async def dead(self) -> frozenset[str]:
        """Workers that are taken for dead now."""
        # Never while somebody buries: whoever asks renews what a burial goes by.
        async with self._burying:
            return frozenset(await self._presence.dead())

    async def silence(self, worker: str) -> float | None:
        """For how many leases ``worker`` has been silent; see ``Presence.silence``."""
        async with self._burying:
            await self._presence.dead()
            return self._presence.silence(worker)

    async def bury(self, only: frozenset[str] | None) -> frozenset[tuple[str, str]]:
        """Lapses the open attempts of workers that live no more, in the runs of ``only`` or in all of them.

        A worker that left nothing behind is forgotten, unless it only stands still and may go on. An attempt that is
        alone, since two workers died at its task, is waited for while its process lives: a slow machine must not
        give the task up. While a shard is away, nobody is forgotten. Returns ``(run, task)`` of those that hang.
        """
        hanging: set[tuple[str, str]] = set()
        outages = Outages()
        # One at a time: what a worker has left counts from the moment at which it was found to have ended.
        async with self._burying:
            for worker in await self._presence.dead():
                leases = self._presence.silence(worker)
                leases = inf if leases is None else leases
                try:
                    for head in await self._all(HeadQuery(worker=worker, may_lack=True)):
                        if (only is None or head.run in only) and not outages.hit(head.run):
                            hanging |= await self._lapse(head.run, worker, leases=leases)
                    if not await self._journal.heads(HeadQuery(worker=worker, limit=1)):
                        await self._presence.withdraw(worker)
                except StoreUnavailable as error:
                    outages.bear(error)
        return frozenset(hanging)

    async def _lapse(
        self, run: str, worker: str, *, leases: float = inf, but: Held = frozenset
    ) -> frozenset[tuple[str, str]]:
        """Lapses what ``worker``, silent for ``leases``, has open in ``run``; returns what hangs and is waited for."""
        try:
            state = await self._scheduler.load(run, is_fresh=True)
        except (NotFound, StoreCorrupt) as error:
            _log.warning("%s is left alone: %s", run, error)
            return frozenset()
        theirs = [t for t in state.tasks.values() if t.status == "running" and t.worker == worker]
        is_over = state.cancel is not None or state.is_overdue(self._clock.now())
        kept = [t for t in theirs if t.is_alone and leases < GIVEN_UP_LEASES and not is_over]
        hanging = frozenset((run, t.task.id) for t in kept if leases >= STUCK_LEASES)
        talks = {
            (t.task.id, t.attempt): await conversation(self._journal, run, t.task.id)
            for t in theirs
            if t not in kept and (run, t.task.id) not in but()
        }
        if not talks:
            return hanging

        def proposal(state: RunState) -> Sequence[Decision]:
            lapsed = [
                Decision(
                    body=b.TaskLapsed(
                        worker=worker,
                        has_progressed=talks[t.task.id, t.attempt].progress.get(t.attempt, 0) > 0,
                        usage=talks[t.task.id, t.attempt].spent(t.attempt),
                    ),
                    task=t.task.id,
                    attempt=t.attempt,
                )
                for t in state.tasks.values()
                if t.status == "running" and t.worker == worker
                if (t.task.id, t.attempt) in talks and (run, t.task.id) not in but()
            ]
            # Where no attempt will come that could look into what it had begun.
            given_up = [d.task for d in lapsed if d.task is not None and _is_given_up(state.tasks[d.task], d.body)]
            left = (told(state, name, open_writes(talks[name, state.tasks[name].attempt])) for name in given_up)
            return [*lapsed, *chain.from_iterable(left)]

        await self._scheduler.propose(run, proposal)
        return hanging


def _is_given_up(task: TaskState, body: b.Body) -> bool:
    """Whether the lapse that ``body`` tells of is the one that puts ``task`` into quarantine."""
    is_barren = isinstance(body, b.TaskLapsed) and not body.has_progressed
    return is_barren and task.barren_lapses + 1 >= MAX_BARREN_LAPSES
