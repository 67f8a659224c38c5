"""Recovery: runs that nobody looks after are found by their heads and set going again."""

from __future__ import annotations

from collections.abc import Sequence

from collegium.domain import body as b
from collegium.domain.conversation import Conversation, converse
from collegium.domain.decide import Decision
from collegium.domain.errors import NotFound
from collegium.domain.head import HeadQuery
from collegium.domain.run import RunState
from collegium.ports import Clock, Journal, Presence
from collegium.runtime.scheduler import Scheduler


class Recovery:
    """Looks after due runs and the runs of dead workers."""

    def __init__(self, scheduler: Scheduler, *, journal: Journal, presence: Presence, clock: Clock) -> None:
        self._scheduler = scheduler
        self._journal = journal
        self._presence = presence
        self._clock = clock

    async def sweep(self, only: frozenset[str] | None = None) -> int:
        """Advances what is due; returns how many runs were looked at.

        Args:
            only: Look after these runs and no others; None for all of the store.
        """
        await self._bury(only)
        if only is not None:
            due = [h for run in only if (h := await self._journal.head(run)) is not None]
            due = [h for h in due if h.wake_at is not None and h.wake_at <= self._clock.now()]
        else:
            due = list(await self._journal.heads(HeadQuery(due_before=self._clock.now())))
        for head in due:
            known = await self._scheduler.load(head.run)
            if known.deciding_seq < head.deciding_seq:
                await self._scheduler.load(head.run, is_fresh=True)
            await self._scheduler.advance(head.run)
        return len(due)

    async def resume(self, run: str) -> RunState:
        """Sets a run going that was drained or whose worker died. Raises ``NotFound``.

        Parks that wait for a person stay as they are; a finished run is returned as it is.
        """
        await self._bury(frozenset({run}))
        state = await self._scheduler.load(run, is_fresh=True)

        def proposal(state: RunState) -> Sequence[Decision]:
            if state.finished is not None or state.cancel is not None:
                return ()
            return [
                Decision(body=b.TaskReady(), task=t.task.id, attempt=t.attempt + 1)
                for t in state.tasks.values()
                if t.status == "parked" and t.park == "drain"
            ]

        return state if state.finished is not None else await self._scheduler.propose(run, proposal)

    async def _bury(self, only: frozenset[str] | None) -> None:
        """Lapses the open attempts of workers that live no more."""
        for worker in await self._presence.dead():
            heads = await self._journal.heads(HeadQuery(worker=worker))
            for head in heads:
                if only is None or head.run in only:
                    await self._lapse(head.run, worker)
            if not await self._journal.heads(HeadQuery(worker=worker, limit=1)):
                await self._presence.withdraw(worker)

    async def _lapse(self, run: str, worker: str) -> None:
        try:
            state = await self._scheduler.load(run, is_fresh=True)
        except NotFound:
            return
        held = [t for t in state.tasks.values() if t.status == "running" and t.worker == worker]
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
