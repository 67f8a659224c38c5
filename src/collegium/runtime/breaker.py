"""The breaker: carries out kill switches on what this process works on, and sets going what was stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from collegium.domain.errors import NotFound, StoreCorrupt, WrongState
from collegium.domain.head import LIVE, Head, HeadQuery
from collegium.ports import Journal
from collegium.runtime.accounts import is_account
from collegium.runtime.heads import heads_of
from collegium.runtime.scheduler import Scheduler
from collegium.runtime.stops import Kind, Stops, Switch, go_on
from collegium.runtime.worker import Worker


class Breaker:
    """Stops and starts tenants, runs, agents and tools."""

    def __init__(self, stops: Stops, worker: Worker, *, scheduler: Scheduler, journal: Journal) -> None:
        self._stops = stops
        self._worker = worker
        self._scheduler = scheduler
        self._journal = journal

    async def stop(self, kind: Kind, name: str, *, reason: str = "", principal: str = "local") -> Switch:
        """Stops it everywhere: here at once, in other processes within a second."""
        switch = await self._stops.put(kind, name, reason=reason, principal=principal)
        await self.enforce()
        return switch

    async def start(self, kind: Kind, name: str) -> tuple[bool, tuple[str, ...]]:
        """Whether it was stopped, and the runs that go on now. Again after a crash half way: the rest of them."""
        was_stopped = await self._stops.remove(kind, name)
        return was_stopped, await self._set_going(kind, name)

    async def _set_going(self, kind: Kind, name: str) -> tuple[str, ...]:
        going: list[str] = []
        for head in await self._concerned(kind, name):
            try:
                state = await self._scheduler.load(head.run, is_fresh=True)
                if go_on(state):
                    await self._scheduler.propose(head.run, go_on)
                    going.append(head.run)
            except (NotFound, StoreCorrupt):
                continue  # somebody who can read it will see to it
        return tuple(going)

    async def switches(self) -> tuple[Switch, ...]:
        """Everything that is stopped."""
        return await self._stops.all()

    async def look(self) -> None:
        """Looks at the switches, carries out what is new, and sets going what was parked for one that is over."""
        await self._stops.refresh()
        await self.enforce()
        for switch in self._stops.settled():
            await self._set_going(switch.kind, switch.name)
            await self._stops.forget(switch)

    async def enforce(self) -> None:
        """Ends what this process does of what is stopped."""
        ended = []
        for attempt in self._worker.attempts:
            if (switch := self._stops.seen(attempt)) is not None:
                attempt.switch = switch
                ended.append(self._worker.interrupt(attempt.run, task=attempt.fence.task))
            for tool in self._stops.tools:
                attempt.end_calls(tool)
        await asyncio.gather(*ended)

    async def require_started(self, tenant: str, run: str) -> None:
        """Raises ``WrongState`` for a run that cannot go on, because it or its tenant is stopped."""
        for switch in await self._stops.all():
            if (switch.kind, switch.name) in (("tenant", tenant), ("run", run)):
                raise WrongState(
                    f"{switch}: `collegium start {switch.kind} {switch.name}` lets it go on", run=run, kind=switch.kind
                )

    async def _concerned(self, kind: Kind, name: str) -> Sequence[Head]:
        """Runs that may have something to go on with."""
        if kind == "run":
            head = await self._journal.head(name)
            return () if head is None else (head,)
        if kind == "tool":
            return ()  # nothing was parked for it: its calls were refused
        query = HeadQuery(tenant=name if kind == "tenant" else None, statuses=LIVE)
        found = {h.run: h async for h in heads_of(self._journal, query) if not is_account(h.run)}
        return tuple(found.values())
