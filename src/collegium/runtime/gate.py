"""The gate: every call of a model or a tool passes it immediately before it is sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from math import inf
from typing import Protocol
from weakref import WeakValueDictionary

from collegium.domain.errors import Fenced
from collegium.domain.head import Fence
from collegium.ports import Clock, Presence
from collegium.runtime.scheduler import Scheduler
from collegium.runtime.stops import Stopped, Stops, Working, go_on, refused

LOOK_S = 0.05


class Held(Working, Protocol):
    """An attempt that a worker works on."""

    @property
    def worker(self) -> str:
        """Who works on it."""
        ...

    @property
    def fence(self) -> Fence:
        """Its task and number."""
        ...

    gaps: int
    """How often the worker had stood still when the attempt was known to be its own."""


class Gate:
    """Lets calls through while nobody can have taken this worker for dead.

    Others take a worker for dead a lease after its last beat; half a lease after it no call is started any more. A
    process that was stopped in between first shows that it lives and then looks whether its attempt is still its own.

    Args:
        silence: For how many leases a worker has been silent; see ``Presence.silence``.
    """

    def __init__(
        self,
        presence: Presence,
        scheduler: Scheduler,
        *,
        clock: Clock,
        silence: Callable[[str], Awaitable[float | None]],
        stops: Stops | None = None,
    ) -> None:
        self._presence = presence
        self._silence = silence
        self._scheduler = scheduler
        self._clock = clock
        self._stops = stops
        self._weighed = WeakValueDictionary[tuple[str, str, str], asyncio.Lock]()

    async def admit(self, held: Held, *, tool: str | None = None) -> None:
        """Returns when the call may be sent, as a rule without giving way to anything else.

        Args:
            held: On whose behalf the call is made.
            tool: The tool that is called; None for a model.

        Raises:
            Fenced: the attempt was taken over or is closed.
            Stopped: its tenant, run or agent is stopped by a kill switch.
            ToolError: the tool is; the text is for the agent.
            StoreError: that cannot be found out.
        """
        if self._stops is not None:
            await self._check_stops(self._stops, held, tool)
        while self._presence.fresh_s() <= 0 or held.gaps != self.gaps():
            await self._beaten()
            gaps = self.gaps()
            await self._check(held, "a model" if tool is None else tool)
            held.gaps = gaps

    def gaps(self) -> int:
        """How often this process stood still so far; an attempt takes it along from its start."""
        return self._presence.gaps()

    async def _check_stops(self, stops: Stops, held: Held, tool: str | None) -> None:
        switch = await stops.over(held)
        if switch is not None:
            raise Stopped(switch)
        if tool is not None and (switch := await stops.over_tool(tool)) is not None:
            raise refused(switch)

    @asynccontextmanager
    async def weighing(self, held: Held, tool: str, arguments: str) -> AsyncIterator[None]:
        """Inside it no other task of the run, in this process, looks up the same call on the ledger.

        Args:
            held: On whose behalf it is looked up.
            tool: The tool that is to be called.
            arguments: The hash of what it is to be called with.
        """
        async with self._weighed.setdefault((held.run, tool, arguments), asyncio.Lock()):
            yield

    async def go_on(self, held: Held) -> None:
        """Sets going again what was parked for a switch that was taken away meanwhile: nobody else would."""
        if self._stops is not None and await self._stops.over(held) is None:
            await self._scheduler.propose(held.run, go_on)

    async def heard(self, held: Held, said: Callable[[], Awaitable[tuple[str, ...]]]) -> tuple[str, ...]:
        """What of all that the user has ``said`` the agent may hear by now: everything, but in a replay."""
        return await said()

    def recorded(self, task: str, attempt: int) -> str | None:
        """The agent that a task has to have; None but in a replay."""
        return None

    async def is_silent(self, worker: str) -> bool | None:
        """Whether ``worker``, which has not ended, was not heard of for a lease; None for one that has ended."""
        leases = await self._silence(worker)
        return None if leases is None or leases == inf else leases >= 1

    async def _beaten(self) -> None:
        while self._presence.fresh_s() <= 0:
            await self._clock.sleep(LOOK_S)

    async def _check(self, held: Held, called: str) -> None:
        state = await self._scheduler.load(held.run, is_fresh=True)
        task = state.tasks.get(held.fence.task)
        is_ours = task is not None and task.status == "running" and task.worker == held.worker
        if task is None or not is_ours or task.attempt != held.fence.attempt:
            raise Fenced(
                f"{called} is not called for task {held.fence.task}, attempt {held.fence.attempt}: while this worker "
                "stood still, the task was taken from it",
                run=held.run,
                task=held.fence.task,
                attempt=held.fence.attempt,
            )
