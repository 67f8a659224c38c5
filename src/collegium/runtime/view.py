"""Views of runs: what is known of one, its events as they come, its report once there is one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import timedelta

from collegium.domain.errors import NotFound
from collegium.domain.event import Event
from collegium.domain.head import FINISHED, Head
from collegium.domain.report import RunReport, report
from collegium.domain.run import RunState
from collegium.ports import Clock, Journal
from collegium.runtime.scheduler import Scheduler

VIEW_S = 0.25
SOON = timedelta(minutes=5)
"""A run that waits for a time this near is waited for."""


class View:
    """Looks at runs of one tenant at a time; another tenant's run is not there.

    Args:
        raise_failed: Raises what has ended the work of this process, if anything has: then nothing more will come.
    """

    def __init__(
        self, journal: Journal, scheduler: Scheduler, *, clock: Clock, raise_failed: Callable[[], None]
    ) -> None:
        self._journal = journal
        self._scheduler = scheduler
        self._clock = clock
        self._raise_failed = raise_failed

    async def state(self, run: str, tenant: str) -> RunState:
        """The state of a run as stored. Raises ``NotFound``."""
        state = await self._scheduler.load(run, is_fresh=True)
        if state.tenant != tenant:
            raise NotFound(f"there is no run {run}", run=run)
        return state

    async def result(self, run: str, tenant: str) -> RunReport:
        """The report of a run, once it has ended or waits for a person.

        Raises ``NotFound``, or ``StoreError`` when work cannot go on.
        """
        while True:
            head = await self._head(run, tenant)
            if head.status in FINISHED or not self._will_move(head):
                return report(await self.state(run, tenant), self._clock.now())
            # What this process decides needs no look into the store; what others do is seen after VIEW_S.
            while (state := await self._scheduler.changed(run, VIEW_S)) is not None:
                if state.finished is not None:
                    return report(state, self._clock.now())
            self._raise_failed()

    async def events(
        self, run: str, tenant: str, *, after: int = 0, is_following: bool = False
    ) -> AsyncIterator[Event]:
        """Events of a run in order, each once, as soon as it is durable. Raises ``NotFound`` for an unknown run."""
        await self._head(run, tenant)
        while True:
            head = await self._head(run, tenant)
            events = await self._journal.read(run, after)
            for event in events:
                yield event
                after = event.seq
            if events:
                continue
            is_over = head.status in FINISHED or not self._will_move(head)
            if not is_following or (is_over and head.seq <= after):
                return
            self._raise_failed()
            await self._scheduler.changed(run, VIEW_S)

    async def _head(self, run: str, tenant: str) -> Head:
        head = await self._journal.head(run)
        if head is None or head.tenant != tenant:
            raise NotFound(f"there is no run {run}", run=run)
        return head

    def _will_move(self, head: Head) -> bool:
        """Whether the run goes on by itself before long."""
        return head.status != "waiting" or (head.wake_at is not None and head.wake_at < self._clock.now() + SOON)
