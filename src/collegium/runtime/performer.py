"""The performer: lets an agent work on a started attempt and closes it, whatever happens."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from collegium.agents.desk import Earlier
from collegium.agents.halts import Asked
from collegium.agents.roster import Roster
from collegium.domain.agent import Agent
from collegium.domain.errors import (
    CollegiumError,
    Fenced,
    InternalFault,
    LimitReached,
    NotFound,
    StoreError,
    TimedOut,
)
from collegium.domain.run import RunState
from collegium.domain.usage import Limits
from collegium.oversight.approvals import ApprovalPolicy
from collegium.oversight.asking import AskPolicy
from collegium.ports import Clock, Embedder, Models, Scorer
from collegium.runtime.accounts import AccountCaps
from collegium.runtime.alone import SendOff
from collegium.runtime.attempt import Attempt
from collegium.runtime.deltas import Deltas
from collegium.runtime.failure import next_try
from collegium.runtime.pins import Pins
from collegium.runtime.rights import rights
from collegium.runtime.room import Rooms
from collegium.runtime.scheduler import Scheduler
from collegium.runtime.shares import Caps
from collegium.runtime.stops import Stops, Switch
from collegium.tools.toolbox import Toolbox

_log = logging.getLogger("collegium.performer")


@dataclass(frozen=True, kw_only=True)
class Team:
    """What all workers of a process work with."""

    roster: Roster
    models: Models
    toolbox: Toolbox
    scorer: Scorer
    embedder: Embedder | None
    rooms: Rooms
    other_model: str | None = None
    """Asked where the usual one has failed at a task for good."""
    send_off: SendOff | None = None
    """For tasks that have killed their worker twice; without it they wait until nothing else is worked on."""
    approvals: ApprovalPolicy = field(default_factory=ApprovalPolicy)
    """What a person is asked about."""
    asks: AskPolicy = field(default_factory=AskPolicy)
    """What agents may ask colleagues."""
    limits: Limits = field(default_factory=Limits)
    """Limits of goals that bring none."""
    caps: AccountCaps = field(default_factory=AccountCaps)
    """What tenants, users and agents may take in a day and a month."""
    shares: Caps = field(default_factory=Caps)
    """How many tasks of a tenant may be worked on at once, in all processes."""
    loaded: Callable[[], tuple[str, ...]] = tuple
    """Names of the local models that are loaded here: tasks that want them are at home here."""


class Performer:
    """Sees attempts through.

    Args:
        able: All agents that have a capability.
        hands_over: Whether what is parked by a drain may go on at once with another worker.
        ended: Told how an attempt (run, task, number) ended by itself: well, or with what error.
        deltas: Tells those who look on what models are saying.
    """

    def __init__(
        self,
        team: Team,
        *,
        scheduler: Scheduler,
        clock: Clock,
        able: Callable[[str], Sequence[Agent]],
        pins: Pins,
        hands_over: bool,
        stops: Stops | None = None,
        ended: Callable[[str, str, int, CollegiumError | None], None] = lambda *_: None,
        deltas: Deltas | None = None,
    ) -> None:
        self._team = team
        self._scheduler = scheduler
        self._clock = clock
        self._able = able
        self._pins = pins
        self._hands_over = hands_over
        self._stops = stops
        self._ended = ended
        self._deltas = deltas

    async def see_through(self, attempt: Attempt, state: RunState, agent: Agent, model: str) -> None:
        """Works on a started attempt and closes it; ``state`` is the run as it was when it started.

        Raises ``StoreError`` when what was done cannot be stored, and CancelledError once the attempt is closed.
        """
        deadline = asyncio.timeout(self._seconds_left(state, attempt, agent))
        try:
            async with deadline:
                await self._perform(attempt, state, agent, model)
        except asyncio.CancelledError:
            working = asyncio.current_task()
            if working is not None:
                working.uncancel()
            await self.stopped(attempt)
            raise
        except TimeoutError as error:
            await self._too_late(attempt, state, agent, error, is_over=deadline.expired())
        except (Asked, Fenced):
            return
        except StoreError:
            raise
        except CollegiumError as error:
            await self._failed(attempt, state, error)
        except Exception as error:  # noqa: BLE001 - the worker's edge: a fault ends one task, never the worker
            _log.exception("task %s of %s failed unexpectedly", attempt.task.id, attempt.run)
            await self._failed(attempt, state, InternalFault(f"{type(error).__name__}: {error}"))

    async def stopped(self, attempt: Attempt) -> None:
        """Closes an attempt whose work was ended from outside: cancelled for good, or drained to go on later."""
        state = await self._scheduler.load(attempt.run, is_fresh=True)
        if state.cancel is not None:
            await attempt.settle_failed("cancelled", "the run was cancelled")
        elif (switch := attempt.switch or await self._switch(attempt)) is not None:
            await attempt.park_stopped(str(switch))
        else:
            await attempt.drain(goes_on=self._hands_over)

    async def _switch(self, attempt: Attempt) -> Switch | None:
        return None if self._stops is None else await self._stops.over(attempt)

    async def _perform(self, attempt: Attempt, state: RunState, agent: Agent, model: str) -> None:
        rooms = self._team.rooms
        if agent.kind == "planner":
            # Plans are made from the names of the documents; reading them can go on meanwhile.
            if not state.goal.is_plan_only:
                rooms.prepare(state)
            room = rooms.bare(state)
        else:
            room = await rooms.open(state)
        opened = await self._team.models.open(model)
        await self._pins.keep_model(state.tenant, model, opened.profile)
        roster = await self._pins.roster(state.tenant, state.pins)
        if self._deltas is not None:
            opened = self._deltas.through(opened, attempt, attempt.task.id)
        result, judgement = await attempt.perform(
            state,
            agent,
            opened,
            room=room,
            roster=roster,
            toolbox=self._team.toolbox.narrowed(rights(state, attempt.task.id, agent, roster)),
            scorer=self._team.scorer,
            embedder=self._team.embedder,
            earlier=await self._earlier(state),
            ask_policy=self._team.asks,
        )
        await attempt.succeed(result, judgement)
        self._ended(attempt.run, attempt.task.id, attempt.number, None)

    async def _too_late(
        self, attempt: Attempt, state: RunState, agent: Agent, error: TimeoutError, *, is_over: bool
    ) -> None:
        if not is_over:  # somebody else's time: the agent let it through
            await self._failed(attempt, state, InternalFault(f"TimeoutError: {error}"))
        elif state.is_overdue(self._clock.now()):
            limit_s = state.goal.limits.deadline_s or 0.0
            await attempt.settle_failed(LimitReached.code, f"the deadline of {limit_s:g} s has passed")
        else:
            limit_s = _own_seconds(attempt, agent) or 0.0
            await self._failed(
                attempt, state, TimedOut(f"it was not done within the {limit_s:g} s that the task may take")
            )

    async def _failed(self, attempt: Attempt, state: RunState, error: CollegiumError) -> None:
        """Closes an attempt that ``error`` has ended."""
        error.message = self._team.toolbox.redactor.own(error.message)  # it is stored, and may quote foreign text
        self._ended(attempt.run, attempt.task.id, attempt.number, error)
        task = state.tasks[attempt.task.id]
        other = self._team.other_model
        retry_in_s = next_try(
            error,
            task,
            able=self._able(task.task.capability),
            has_other_model=other is not None and task.model != other,
        )
        await attempt.fail(error, retry_in_s=retry_in_s)

    async def _earlier(self, state: RunState) -> Earlier | None:
        """The run that ``state`` continues."""
        if state.goal.continues is None:
            return None
        before = await self._scheduler.load(state.goal.continues, is_fresh=True)
        if before.tenant != state.tenant:
            raise NotFound(f"there is no run {state.goal.continues}", run=state.goal.continues)
        answer = before.finished.answer.text if before.finished and before.finished.answer else "(no answer)"
        return Earlier(goal=before.goal.text, answer=answer)

    def _seconds_left(self, state: RunState, attempt: Attempt, agent: Agent) -> float | None:
        own = _own_seconds(attempt, agent)
        if state.deadline is None:
            return own
        left = max(0.0, (state.deadline - self._clock.now()).total_seconds())
        return left if own is None else min(left, own)


def _own_seconds(attempt: Attempt, agent: Agent) -> float | None:
    """What the attempt may take by its task or its agent, the run's deadline aside."""
    return min([s for s in (attempt.task.timeout_s, agent.timeout_s) if s is not None], default=None)
