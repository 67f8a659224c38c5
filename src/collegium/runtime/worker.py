"""The worker: claims tasks from the bus and sees each attempt through to its end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from typing import Any

from collegium.agents.roster import Roster
from collegium.domain.errors import (
    NotFound,
    StoreError,
    StoreUnavailable,
    UnknownName,
)
from collegium.domain.message import Claim, work_topic
from collegium.domain.run import RunState
from collegium.domain.task import TaskState
from collegium.ports import Bus, Clock, Journal
from collegium.runtime.alone import Alone
from collegium.runtime.attempt import Attempt
from collegium.runtime.deltas import Deltas
from collegium.runtime.failure import wants_other_model
from collegium.runtime.funding import Funding
from collegium.runtime.gate import Gate
from collegium.runtime.performer import Performer, Team
from collegium.runtime.pins import Pins
from collegium.runtime.placement import Later, Placement
from collegium.runtime.router import Route
from collegium.runtime.scheduler import Scheduler
from collegium.runtime.stops import Stops
from collegium.telemetry import DISPATCH, Meter

IDLE_S = 1.0
GRACE_S = 10.0
AWAY_S = 1.0
"""So long a message waits whose run could not be read or written, since its store is away."""
_log = logging.getLogger("collegium.worker")


class Worker:
    """Claims tasks and works on up to ``concurrency`` of them at once.

    Args:
        id: Name of this worker; a new one for every process, so that a dead one is never mistaken for a living one.
        placement: Finds agents for tasks, and knows for which capabilities they are claimed.
        hands_over: Whether what it parks at its end may go on at once with another worker.
        meter: Counts how soon tasks are started.

    Attributes:
        deltas: Tells those who look on what models are saying.
    """

    def __init__(
        self,
        id: str,  # noqa: A002 - the glossary's word
        team: Team,
        *,
        scheduler: Scheduler,
        journal: Journal,
        bus: Bus,
        clock: Clock,
        gate: Gate,
        pins: Pins,
        placement: Placement,
        stops: Stops | None = None,
        funding: Funding | None = None,
        concurrency: int = 64,
        hands_over: bool = False,
        meter: Meter | None = None,
    ) -> None:
        self.id = id
        self._team = team
        self._scheduler = scheduler
        self._journal = journal
        self._bus = bus
        self._clock = clock
        self._gate = gate
        self._pins = pins
        self._stops = stops
        self._funding = funding
        self._meter = meter or Meter()
        self.concurrency = concurrency
        self.capabilities = placement.capabilities
        self._placement = placement
        self._slots = placement.slots
        self._tasks: dict[asyncio.Task[None], tuple[str, str]] = {}
        self._attempts: dict[asyncio.Task[None], Attempt] = {}
        self._freed = placement.freed
        self._alone = Alone(team.send_off, count=lambda: len(self._tasks), freed=self._freed)
        self.deltas = Deltas(bus, clock=clock)
        self._performer = Performer(
            team,
            scheduler=scheduler,
            clock=clock,
            able=self._slots.able,
            pins=pins,
            hands_over=hands_over,
            stops=stops,
            ended=placement.ended,
            deltas=self.deltas,
        )
        self._is_draining = False
        self._failed: BaseException | None = None

    async def work(self) -> None:
        """Works until it is drained. Raises ``StoreError`` when what was done can no longer be stored."""
        while not self._is_draining:
            self._raise_failed()
            self._freed.clear()
            topics, room = self._open()
            claims = await self._bus.claim(topics, "workers", limit=room) if room else ()
            for claim in claims:
                body = claim.message.body
                working = self._begin(self._handle(claim), str(body["run"]), str(body["task"]))
                self._slots.promise(working, claim.message.topic.removeprefix(work_topic("")))
            if not claims:
                await self._wait(topics)

    async def work_on(self, run: str, task: str, number: int) -> None:
        """Works on one attempt, claimed or not, if it still waits for a worker; returns when it has ended."""
        state = await self._scheduler.load(run, is_fresh=True)
        wanted = state.tasks.get(task)
        if wanted is None or wanted.status != "ready" or wanted.attempt != number:
            return
        working = self._begin(self._take(state, wanted), run, task)
        with suppress(asyncio.CancelledError):
            await asyncio.wait([working])
        self._raise_failed()

    async def drain(self, grace_s: float = GRACE_S) -> None:
        """Stops claiming, parks what is being worked on, and returns when all of it is stored.

        Args:
            grace_s: How long writes that have begun may take to end; what is still at it afterwards is parked all the
                same, and what it does later changes nothing any more.
        """
        self._is_draining = True
        self._freed.set()
        await asyncio.gather(*(self._end(task, grace_s) for task in list(self._tasks)))

    async def interrupt(self, run: str, *, task: str | None = None) -> None:
        """Ends this worker's calls for ``run``, or for one task of it, and closes their attempts."""
        await self._interrupt([t for t, (r, name) in self._tasks.items() if r == run and task in (None, name)])

    def serve(self, roster: Roster) -> None:
        """Takes tasks as well whose capability only agents of ``roster`` have, kept for old runs."""
        self._slots.serve(roster)
        self._freed.set()

    @property
    def is_draining(self) -> bool:
        """Whether it takes nothing more."""
        return self._is_draining

    @property
    def load(self) -> int:
        """Tasks that are being worked on."""
        return len(self._tasks)

    @property
    def held(self) -> frozenset[tuple[str, str]]:
        """``(run, task)`` of everything that is being worked on."""
        return frozenset(self._tasks.values())

    @property
    def runs(self) -> frozenset[str]:
        """Runs that are being worked on."""
        return frozenset(run for run, _ in self._tasks.values())

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """The attempts that this worker has started."""
        return tuple(self._attempts.values())

    def started(self, run: str) -> Mapping[str, int]:
        """Tasks of ``run`` whose attempts this worker has started, with their numbers."""
        return {a.fence.task: a.fence.attempt for a in self._attempts.values() if a.run == run}

    def _begin(self, work: Coroutine[Any, Any, None], run: str, task: str) -> asyncio.Task[None]:
        working = asyncio.create_task(work)
        self._tasks[working] = (run, task)
        working.add_done_callback(self._forget)
        return working

    async def _end(self, task: asyncio.Task[None], grace_s: float) -> None:
        attempt = self._attempts.get(task)
        if attempt is not None and attempt.is_writing:
            with suppress(TimeoutError):
                async with asyncio.timeout(grace_s):
                    await attempt.quiet()
        await self._interrupt([task], grace_s)

    async def _interrupt(self, tasks: Sequence[asyncio.Task[None]], grace_s: float = GRACE_S) -> None:
        for task in tasks:
            task.cancel()
        if not tasks:
            return
        _, stuck = await asyncio.wait(tasks, timeout=grace_s)
        for task in stuck:
            # It does not let itself be ended: from here on its fence refuses whatever it does.
            _log.warning("%s goes on though it was told to end %g s ago", self._tasks.get(task), grace_s)
            if task in self._attempts:
                await self._performer.stopped(self._attempts[task])

    def _open(self) -> tuple[tuple[str, ...], int]:
        """The topics that may be claimed from, and how many messages at once."""
        room = self.concurrency - len(self._tasks)
        if room <= 0 or self._alone.is_wanted:
            return (), 0
        slots = self._slots.open()
        return tuple(work_topic(c) for c in slots), min(room, *slots.values()) if slots else 0

    async def _wait(self, topics: Sequence[str]) -> None:
        """Until there may be work, or a task has ended and made room."""
        if not topics:
            await self._freed.wait()
            return
        if not self._slots.is_any_full:
            await self._bus.wait(topics, IDLE_S)
            return
        waits = [asyncio.ensure_future(self._bus.wait(topics, IDLE_S)), asyncio.ensure_future(self._freed.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waits:
                one.cancel()

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        self._attempts.pop(task, None)
        self._slots.withdraw(task)
        self._freed.set()
        if task.cancelled() or (error := task.exception()) is None:
            return
        if isinstance(error, StoreUnavailable):
            # The store will be back: the sweep finds what was left open and it is tried again.
            _log.warning("an attempt could not be stored: %s", error)
        else:
            self._failed = error

    def _raise_failed(self) -> None:
        error, self._failed = self._failed, None
        if error is not None:
            raise error

    async def _handle(self, claim: Claim) -> None:
        try:
            await self._see_to(claim)
        except StoreUnavailable:
            # It may be back long before the claim ends. Where the attempt has begun, the message is gone already.
            await self._settle(claim, requeue_after_s=AWAY_S)
            raise

    async def _see_to(self, claim: Claim) -> None:
        try:
            ready = await self._ready(claim)
        except asyncio.CancelledError:
            await self._settle(claim, requeue_after_s=0)
            raise
        finally:
            self._slots.withdraw(asyncio.current_task())
        if ready is None:
            await self._settle(claim)
        elif not ready[1].is_alone:
            await self._take(*ready, claim)
        elif self._alone.has_processes:
            await self._alone.send_off(ready[0].id, ready[1].task.id, ready[1].attempt)
            await self._scheduler.load(ready[0].id, is_fresh=True)
            await self._settle(claim)
        else:
            async with self._alone.turn():
                await self._take(*ready, claim)

    async def _ready(self, claim: Claim) -> tuple[RunState, TaskState] | None:
        """What the message is about; None for a duplicate, or one from before somebody else's decision."""
        body = claim.message.body
        run, task_id, number = str(body["run"]), str(body["task"]), int(body["attempt"])
        try:
            state = await self._scheduler.load(run)
        except NotFound:
            return None
        task = state.tasks.get(task_id)
        if task is None or task.attempt < number or task.status in ("pending", "parked"):
            # The message may know more than this process does.
            state = await self._scheduler.load(run, is_fresh=True)
            task = state.tasks.get(task_id)
        if task is None or task.status != "ready" or task.attempt != number:
            return None
        return state, task

    async def _take(self, state: RunState, task: TaskState, claim: Claim | None = None) -> None:
        """Works on a task that is ready, unless all who could are busy: then its message comes back."""
        attempt = Attempt(
            state,
            task,
            worker=self.id,
            scheduler=self._scheduler,
            journal=self._journal,
            clock=self._clock,
            gate=self._gate,
            approvals=self._team.approvals,
            funding=self._funding,
        )
        try:
            roster = await self._pins.roster(state.tenant, state.pins)
            recorded = self._gate.recorded(task.task.id, task.attempt)
            placed = await self._placement.place(
                state, task, roster=roster, recorded=recorded, is_claimed=claim is not None
            )
        except UnknownName as error:
            # The run was planned when there still was such an agent.
            await attempt.settle_failed(error.code, error.message)
            await self._settle(claim)
            return
        if isinstance(placed, Later):
            await self._settle(claim, requeue_after_s=placed.seconds)
            return
        chosen = placed.route
        try:
            if await self._is_stopped(attempt, chosen):
                await self._settle(claim)
                return
            wanted = (*chosen.agent.tools, *state.goal.tools)
            if (gone := self._pins.gone(state, wanted, task.task.tools)) is not None:
                await attempt.park_pinned(gone)
                await self._settle(claim)
                return
            model = self._model(state, task, chosen)
            is_fresh = task.failures > 0 and (chosen.agent.name, model) != (task.agent, task.model)
            started = await self._start(attempt, chosen, model, is_fresh=is_fresh)
            if started is None:
                await self._settle(claim)
            else:
                self._attempts[asyncio.current_task()] = attempt  # type: ignore[index] # always inside a task
                self._measure(task)
                await self._settled(attempt, claim)
                await self._performer.see_through(attempt, started, chosen.agent, model)
        finally:
            await self._placement.done(placed)

    def _measure(self, task: TaskState) -> None:
        """Counts how long the task has waited since it could be worked on; hosts' clocks may differ a little."""
        if task.ready_at is not None:
            due = task.ready_at if task.wake_at is None else max(task.ready_at, task.wake_at)
            self._meter.observe(DISPATCH, max(0.0, (self._clock.now() - due).total_seconds()))

    async def _is_stopped(self, attempt: Attempt, chosen: Route) -> bool:
        """Whether a kill switch keeps the attempt from starting; then it is parked until that is started again."""
        attempt.agent = chosen.agent.name
        switch = None if self._stops is None else await self._stops.over(attempt)
        if switch is not None:
            await attempt.park_stopped(str(switch))
        return switch is not None

    async def _settle(self, claim: Claim | None, *, requeue_after_s: float | None = None) -> None:
        """Tells the bus what came of the message; never fails, since the journal has what was decided.

        A message that the bus keeps comes back when its claim ends, and what it asks for has been done by then.
        """
        if claim is None:
            return
        try:
            await self._bus.settle(claim, requeue_after_s=requeue_after_s)
        except (StoreError, OSError) as error:
            _log.warning("message %s could not be settled: %s", claim.message.id, error)

    async def _settled(self, attempt: Attempt, claim: Claim | None) -> None:
        """Settles the message of a started attempt; when that is interrupted, the attempt is closed again."""
        try:
            await self._settle(claim)
        except asyncio.CancelledError:
            await self._performer.stopped(attempt)
            raise

    def _model(self, state: RunState, task: TaskState, chosen: Route) -> str:
        """The name of the model to ask; another than usual where the usual one has failed at the task."""
        usual = chosen.agent.model or state.goal.model
        other = self._team.other_model
        return other if other and (wants_other_model(task) or task.model == other) else usual

    async def _start(self, attempt: Attempt, chosen: Route, model: str, *, is_fresh: bool) -> RunState | None:
        """Starts the attempt; when that is interrupted, an attempt that did start is closed again."""
        starting = asyncio.create_task(attempt.start(chosen, model, is_fresh=is_fresh))
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            if await starting is not None:
                await self._performer.stopped(attempt)
            raise
