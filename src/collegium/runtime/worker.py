"""The worker: claims tasks from the bus and sees each attempt through to its end."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from collegium.agents.desk import Earlier
from collegium.agents.roster import Roster
from collegium.domain.errors import (
    CollegiumError,
    Fenced,
    LimitReached,
    NotFound,
    StoreError,
    StoreUnavailable,
    UnknownName,
)
from collegium.domain.message import Claim, work_topic
from collegium.domain.run import RunState
from collegium.ports import Bus, Clock, Embedder, Journal, Models, Scorer
from collegium.runtime.attempt import Attempt
from collegium.runtime.room import Rooms
from collegium.runtime.router import Route, route
from collegium.runtime.scheduler import Scheduler
from collegium.tools.toolbox import Toolbox

IDLE_S = 1.0
_log = logging.getLogger("collegium.worker")


@dataclass(frozen=True, kw_only=True)
class Team:
    """What all workers of a process work with."""

    roster: Roster
    models: Models
    toolbox: Toolbox
    scorer: Scorer
    embedder: Embedder | None
    rooms: Rooms


class Worker:
    """Claims tasks and works on up to ``concurrency`` of them at once.

    Args:
        id: Name of this worker; a new one for every process, so that a dead one is never mistaken for a living one.
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
        concurrency: int = 64,
        capabilities: Sequence[str] | None = None,
    ) -> None:
        self.id = id
        self._team = team
        self._scheduler = scheduler
        self._journal = journal
        self._bus = bus
        self._clock = clock
        self._concurrency = concurrency
        self._topics = tuple(work_topic(c) for c in capabilities or team.roster.capabilities)
        self._tasks: dict[asyncio.Task[None], tuple[str, str]] = {}
        self._load: Counter[str] = Counter()
        self._is_draining = False
        self._failed: BaseException | None = None

    async def work(self) -> None:
        """Works until it is drained. Raises ``StoreError`` when what was done can no longer be stored."""
        while not self._is_draining:
            self._raise_failed()
            room = self._concurrency - len(self._tasks)
            claims = await self._bus.claim(self._topics, "workers", limit=room) if room else ()
            for claim in claims:
                task = asyncio.create_task(self._handle(claim))
                self._tasks[task] = (str(claim.message.body["run"]), str(claim.message.body["task"]))
                task.add_done_callback(self._forget)
            if not claims:
                await self._wait()

    async def drain(self) -> None:
        """Stops claiming, parks what is being worked on, and returns when all of it is stored."""
        self._is_draining = True
        await self._interrupt(list(self._tasks))

    async def interrupt(self, run: str) -> None:
        """Ends this worker's calls for ``run`` and closes their attempts."""
        await self._interrupt([t for t, (r, _) in self._tasks.items() if r == run])

    @property
    def held(self) -> frozenset[tuple[str, str]]:
        """``(run, task)`` of everything that is being worked on."""
        return frozenset(self._tasks.values())

    @property
    def runs(self) -> frozenset[str]:
        """Runs that are being worked on."""
        return frozenset(run for run, _ in self._tasks.values())

    async def _interrupt(self, tasks: Sequence[asyncio.Task[None]]) -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _wait(self) -> None:
        """Until there may be work, or a task has ended and made room."""
        if len(self._tasks) >= self._concurrency:
            await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        else:
            await self._bus.wait(self._topics, IDLE_S)

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        if task.cancelled() or (error := task.exception()) is None:
            return
        if isinstance(error, StoreUnavailable):
            # The store will be back: the sweep finds what was left open and it is tried again.
            _log.warning("an attempt could not be stored: %s", error)
        else:
            self._failed = error

    def _raise_failed(self) -> None:
        if self._failed is not None:
            raise self._failed

    async def _handle(self, claim: Claim) -> None:
        body = claim.message.body
        run, task_id, number = str(body["run"]), str(body["task"]), int(body["attempt"])
        try:
            state = await self._scheduler.load(run)
        except NotFound:
            await self._bus.settle(claim)
            return
        task = state.tasks.get(task_id)
        if task is None or task.attempt < number or task.status in ("pending", "parked"):
            # The message may know more than this process does.
            state = await self._scheduler.load(run, is_fresh=True)
            task = state.tasks.get(task_id)
        if task is None or task.status != "ready" or task.attempt != number:
            # A duplicate, or a message from before somebody else's decision.
            await self._bus.settle(claim)
            return
        attempt = Attempt(
            state, task, worker=self.id, scheduler=self._scheduler, journal=self._journal, clock=self._clock
        )
        try:
            able = self._team.roster.able(task.task.capability)
            chosen = route(task.task.capability, able, self._load, before=task.agent)
        except UnknownName as error:
            # The run was planned when there still was such an agent.
            await attempt.settle_failed(error.code, error.message)
            await self._bus.settle(claim)
            return
        model = chosen.agent.model or state.goal.model
        started = await self._start(attempt, chosen, model)
        if started is None:
            await self._bus.settle(claim)
            return
        self._load[chosen.agent.name] += 1
        try:
            await self._see_through(attempt, started, chosen.agent.name, model, claim)
        finally:
            self._load[chosen.agent.name] -= 1

    async def _start(self, attempt: Attempt, chosen: Route, model: str) -> RunState | None:
        """Starts the attempt; when that is interrupted, an attempt that did start is closed again."""
        starting = asyncio.create_task(attempt.start(chosen, model))
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            if await starting is not None:
                await self._stopped(attempt)
            raise

    async def _see_through(self, attempt: Attempt, state: RunState, agent: str, model: str, claim: Claim) -> None:
        """Works on a started attempt and closes it, whatever happens."""
        failures = state.tasks[attempt.task.id].failures
        deadline = asyncio.timeout(self._seconds_left(state))
        try:
            await self._bus.settle(claim)
            async with deadline:
                await self._perform(attempt, state, agent, model)
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if current is not None:
                current.uncancel()
            await self._stopped(attempt)
            raise
        except TimeoutError as error:
            if deadline.expired():
                seconds = state.goal.limits.deadline_s or 0.0
                await attempt.settle_failed(LimitReached.code, f"the deadline of {seconds:g} s has passed")
            else:
                await attempt.settle_failed("internal", f"TimeoutError: {error}")
        except Fenced:
            return
        except StoreError:
            raise
        except CollegiumError as error:
            await attempt.fail(error, failures)
        except Exception as error:  # noqa: BLE001 - the worker's edge: a fault ends one task, never the worker
            _log.exception("task %s of %s failed unexpectedly", attempt.task.id, attempt.run)
            await attempt.settle_failed("internal", f"{type(error).__name__}: {error}")

    async def _perform(self, attempt: Attempt, state: RunState, agent: str, model: str) -> None:
        declared = self._team.roster.get(agent)
        rooms = self._team.rooms
        if declared.kind == "planner":
            # Plans are made from the names of the documents; reading them can go on meanwhile.
            if not state.goal.is_plan_only:
                rooms.prepare(state)
            room = rooms.bare(state)
        else:
            room = await rooms.open(state)
        opened = await self._team.models.open(model)
        result, judgement = await attempt.perform(
            state,
            declared,
            opened,
            room=room,
            roster=self._team.roster,
            toolbox=self._team.toolbox,
            scorer=self._team.scorer,
            embedder=self._team.embedder,
            earlier=await self._earlier(state),
        )
        await attempt.succeed(result, judgement)

    async def _stopped(self, attempt: Attempt) -> None:
        """Closes an attempt whose work was ended from outside: cancelled for good, or drained to go on later."""
        state = await self._scheduler.load(attempt.run, is_fresh=True)
        if state.cancel is not None:
            await attempt.settle_failed("cancelled", "the run was cancelled")
        else:
            await attempt.drain()

    async def _earlier(self, state: RunState) -> Earlier | None:
        """The run that ``state`` continues."""
        if state.goal.continues is None:
            return None
        before = await self._scheduler.load(state.goal.continues, is_fresh=True)
        if before.tenant != state.tenant:
            raise NotFound(f"there is no run {state.goal.continues}", run=state.goal.continues)
        answer = before.finished.answer.text if before.finished and before.finished.answer else "(no answer)"
        return Earlier(goal=before.goal.text, answer=answer)

    def _seconds_left(self, state: RunState) -> float | None:
        if state.deadline is None:
            return None
        return max(0.0, (state.deadline - self._clock.now()).total_seconds())
