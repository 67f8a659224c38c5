"""Recovery: runs that nobody looks after are found by their heads and set going again."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from msgspec.structs import replace

from collegium.domain import body as b
from collegium.domain.conversation import Conversation, converse
from collegium.domain.decide import resumed
from collegium.domain.decision import Decision
from collegium.domain.errors import Fenced, NotFound, StoreCorrupt
from collegium.domain.head import Head, HeadQuery
from collegium.domain.run import RunState
from collegium.ports import Clock, Journal, Presence
from collegium.runtime.scheduler import Scheduler

_log = logging.getLogger("collegium.recovery")


class Recovery:
    """Looks after due runs and the runs of dead workers."""

    def __init__(self, scheduler: Scheduler, *, journal: Journal, presence: Presence, clock: Clock) -> None:
        self._scheduler = scheduler
        self._journal = journal
        self._presence = presence
        self._clock = clock

    async def sweep(self, only: frozenset[str] | None = None) -> int:
        """Advances what is due; returns how many runs were looked at.

        A run that this code cannot read, or that was written by a newer one, is left to others and holds up nobody.

        Args:
            only: Look after these runs and no others; None for all of the store.
        """
        await self._bury(only)
        looked_at = 0
        for head in await self._due(only):
            try:
                known = await self._scheduler.load(head.run)
                if known.deciding_seq < head.deciding_seq:
                    await self._scheduler.load(head.run, is_fresh=True)
                await self._scheduler.advance(head.run)
            except (StoreCorrupt, NotFound, Fenced) as error:
                _log.warning("run %s is left alone: %s", head.run, error)
            looked_at += 1
        return looked_at

    async def lapse_lost(self, worker: str, held: frozenset[tuple[str, str]]) -> None:
        """Lapses attempts that the store says are this ``worker``'s and that it does not work on.

        So whatever went wrong while an attempt was started or closed, none stays open with nobody on it.

        Args:
            worker: The worker of this process.
            held: ``(run, task)`` of everything it works on.
        """
        for head in await self._all(HeadQuery(worker=worker)):
            # What this process started it has decided itself: its own memory says whether a closer look is worth it.
            known = await self._scheduler.load(head.run)
            theirs = {(head.run, t.task.id) for t in known.tasks.values() if t.worker == worker}
            if not theirs or theirs - held:
                await self._lapse(head.run, worker, but=held)

    async def _due(self, only: frozenset[str] | None) -> list[Head]:
        now = self._clock.now()
        if only is None:
            return await self._all(HeadQuery(due_before=now))
        heads = [h for run in only if (h := await self._journal.head(run)) is not None]
        return [h for h in heads if h.wake_at is not None and h.wake_at <= now]

    async def _all(self, query: HeadQuery) -> list[Head]:
        """Every page of ``query``: a run further down must not wait for those before it."""
        heads: list[Head] = []
        while page := await self._journal.heads(query):
            heads += page
            if len(page) < query.limit:
                break
            query = replace(query, after=page[-1].run)
        return list({h.run: h for h in heads}.values())

    async def resume(self, run: str) -> RunState:
        """Sets a run going that was drained or whose worker died. Raises ``NotFound``.

        Parks that wait for a person stay as they are; a finished run is returned as it is.
        """
        await self._bury(frozenset({run}))
        state = await self._scheduler.load(run, is_fresh=True)
        return state if state.finished is not None else await self._scheduler.propose(run, resumed)

    async def _bury(self, only: frozenset[str] | None) -> None:
        """Lapses the open attempts of workers that live no more."""
        for worker in await self._presence.dead():
            for head in await self._all(HeadQuery(worker=worker)):
                if only is None or head.run in only:
                    await self._lapse(head.run, worker)
            if not await self._journal.heads(HeadQuery(worker=worker, limit=1)):
                await self._presence.withdraw(worker)

    async def bury(self, run: str) -> None:
        """Lapses the attempts of dead workers in one run."""
        await self._bury(frozenset({run}))

    async def _lapse(self, run: str, worker: str, *, but: frozenset[tuple[str, str]] = frozenset()) -> None:
        try:
            state = await self._scheduler.load(run, is_fresh=True)
        except (NotFound, StoreCorrupt) as error:
            _log.warning("run %s is left alone: %s", run, error)
            return
        theirs = [t for t in state.tasks.values() if t.status == "running" and t.worker == worker]
        held = [t for t in theirs if (run, t.task.id) not in but]
        if not held:
            return
        talks = {t.task.id: await self._converse(run, t.task.id) for t in held}

        def proposal(state: RunState) -> Sequence[Decision]:
            return [
                Decision(
                    body=b.TaskLapsed(
                        worker=worker,
                        has_progressed=talks[t.task.id].progress.get(t.attempt, 0) > 0,
                        usage=talks[t.task.id].spent(t.attempt),
                    ),
                    task=t.task.id,
                    attempt=t.attempt,
                )
                for t in state.tasks.values()
                if t.status == "running" and t.worker == worker and t.task.id in talks
            ]

        await self._scheduler.propose(run, proposal)

    async def _converse(self, run: str, task: str) -> Conversation:
        talk, after = Conversation(), 0
        while events := await self._journal.read(run, after):
            talk, after = converse(events, task, talk), events[-1].seq
        return talk
