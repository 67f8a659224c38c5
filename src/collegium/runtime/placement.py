"""Placement: finds the agent for a task that a worker has claimed, takes its places, and gives them back."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from collegium.agents.likeness import Likeness
from collegium.agents.roster import Roster
from collegium.domain.agent import Agent
from collegium.domain.errors import CollegiumError
from collegium.domain.run import RunState
from collegium.domain.task import TaskState
from collegium.domain.worker import AgentCard
from collegium.ports import Clock
from collegium.runtime.failure import avoided
from collegium.runtime.health import Health, own_fault
from collegium.runtime.lifecycle import Lifecycle
from collegium.runtime.outlook import Outlook
from collegium.runtime.performer import Team
from collegium.runtime.router import Figures, Route, Wanted
from collegium.runtime.shares import Shares
from collegium.runtime.slots import Slots
from collegium.runtime.stores import Stores

FULL_S: Final = 0.05
"""So soon a task comes back whose agents are all at work."""
AWAY_S: Final = 1.0
"""So soon one comes back whose agents take nothing at the moment."""
STICKY_S: Final = 0.2
"""For so long a task that wants a local model is left to the workers that have it loaded."""
KEPT: Final = 1_024
FLEET_FULL: Final = "all its places in the fleet are taken"


class Later(NamedTuple):
    """The task could not be placed; it comes back after ``seconds``."""

    seconds: float


@dataclass
class Placed:
    """A task's agent and what is held for it, until ``done``.

    ``ended``: how its attempt ended: well (True), with an error, or in a way that says nothing of the agent (None).
    """

    route: Route
    holder: str
    run: str
    began_s: float
    is_trial: bool
    ended: CollegiumError | bool | None = None


class Placement:
    """Places tasks; see ``route`` for how an agent is chosen.

    Args:
        worker: The id of this process's worker.
        team: Who there is, what is loaded here, what tenants may have at once.
        capabilities: What tasks are claimed for; none for all that the team has.
        stores: Where standings, queues and the other workers' cards are seen.
    """

    def __init__(
        self,
        worker: str,
        team: Team,
        capabilities: Sequence[str],
        *,
        stores: Stores,
        clock: Clock,
    ) -> None:
        self._roster = roster = team.roster
        self.capabilities = tuple(capabilities or roster.capabilities)
        self._clock = clock
        self.health = Health(clock)
        self.outlook = Outlook(
            worker, directory=stores.directory, bus=stores.bus, health=self.health, loaded=team.loaded
        )
        self.lifecycle = Lifecycle(
            stores.records, roster, clock=clock, complaint=self.outlook.complaint, forget=self.health.forget
        )
        self.likeness = Likeness(roster, team.embedder)
        self.slots = Slots(roster, self.capabilities, takes=self.lifecycle.takes)
        self.freed = asyncio.Event()
        self._shares = Shares(stores.quota, team.shares, clock=clock)
        self._placed: dict[str, Placed] = {}
        self._left: dict[str, None] = {}
        self._returns: set[asyncio.Task[None]] = set()

    async def place(
        self,
        state: RunState,
        task: TaskState,
        *,
        roster: Roster,
        recorded: str | None = None,
        is_claimed: bool = True,
    ) -> Placed | Later:
        """The agent for a task that is ready, with its places taken.

        Args:
            state: Its run.
            task: The task.
            roster: The agents that the run is pinned to.
            recorded: In a replay, the agent that it had.
            is_claimed: Whether its message can be given back.

        Raises UnknownName when nobody has the capability or comes near to it.
        """
        asked, holder = task.task.capability, f"{state.id}/{task.task.id}/{task.attempt}"
        able, likeness = await self._able(task, roster)
        if recorded is not None and (then := tuple(a for a in able if a.name == recorded)):
            able = then
        elif is_claimed and self._leaves(holder, asked, able, state.goal.model):
            return Later(0.0)
        wanted = Wanted(
            capability=asked,
            tools=task.task.tools,
            run_tools=state.goal.tools,
            documents=tuple(f.path for f in state.goal.files) if any(a.accepts for a in able) else (),
            before=task.agent,
            avoided=avoided(task),
            likeness=likeness,
        )
        return await self._take(wanted, able, state, holder)

    def ended(self, run: str, task: str, attempt: int, error: CollegiumError | None) -> None:
        """Takes note of how an attempt ended, before its places are given back."""
        placed = self._placed.get(f"{run}/{task}/{attempt}")
        if placed is not None:
            placed.ended = True if error is None else error

    async def done(self, placed: Placed) -> None:
        """Gives the places back, and counts how the attempt ended."""
        agent = placed.route.agent
        self._placed.pop(placed.holder, None)
        self.slots.release(agent.name)
        why = own_fault(placed.ended, agent) if isinstance(placed.ended, CollegiumError) else None
        if placed.ended is True or why is not None:
            seconds = self._clock.monotonic() - placed.began_s
            self.health.ended(agent.name, run=placed.run, seconds=seconds, why=why)
        if placed.is_trial:
            is_well = True if placed.ended is True else False if why is not None else None
            await self.lifecycle.end_trial(agent.name, placed.holder, is_well=is_well, why=why or "")
        await self._shares.release(placed.holder)

    async def look(self) -> None:
        """Renews what is held, and looks at agents, workers and queues; called once a second."""
        await self._shares.renew()
        await self.lifecycle.look()
        await self.outlook.look(self.slots.agents)
        if self.slots.is_any_full:
            self.freed.set()  # somebody may take tasks again

    def cards(self) -> tuple[AgentCard, ...]:
        """How the agents of this worker do."""
        present = {a.name for a in self._roster}
        return self.outlook.cards(
            self.slots.agents, lifecycle=self.lifecycle, load=self.slots.load, is_present=present.__contains__
        )

    async def _able(self, task: TaskState, roster: Roster) -> tuple[tuple[Agent, ...], dict[str, float]]:
        """Who can do the task, or who comes near to it where nobody declares that they can."""
        asked = task.task.capability
        able = self.slots.able(asked) if roster is self._roster else roster.able(asked)
        if able or (near := await self.likeness.near(asked, task.task.title)) is None:
            return able, {}
        pinned = {a.name: a for a in roster}
        return tuple(pinned.get(n) or self._roster.get(n) for n in sorted(near.agents)), near.agents

    async def _take(self, wanted: Wanted, able: Sequence[Agent], state: RunState, holder: str) -> Placed | Later:
        figures = {a.name: self._figures(a, wanted.capability, state) for a in able}
        while (chosen := self.slots.take(wanted, able, figures)) is not None:
            agent, is_trial = chosen.agent, figures[chosen.agent.name].is_on_trial
            try:
                full = await self._places(state.tenant, agent, holder, is_trial=is_trial)
            except BaseException:
                self.slots.release(agent.name)
                raise
            if full is None:
                placed = Placed(chosen, holder, state.id, self._clock.monotonic(), is_trial)
                self._placed[holder] = placed
                return placed
            self.slots.release(agent.name)
            if not full.startswith("agent:") or wanted.before == agent.name:
                return Later(self._shares.later_s(full))
            figures[agent.name] = Figures(held=FLEET_FULL)
        if any(f.held == FLEET_FULL for f in figures.values()):
            return Later(self._shares.later_s(f"agents:{wanted.capability}"))
        is_away = all(self.lifecycle.takes(a.name) == 0 for a in able)
        return Later(AWAY_S if is_away else FULL_S)

    async def _places(self, tenant: str, agent: Agent, holder: str, *, is_trial: bool) -> str | None:
        """None when everything is taken that the task needs beside a slot; else what is full."""
        if is_trial and not await self.lifecycle.begin_trial(agent.name, holder):
            return f"agent:{agent.name}"
        buckets = self._shares.wanted(tenant, agent)
        full = await self._shares.take(holder, buckets) if buckets else None
        if full is not None and is_trial:
            await self.lifecycle.end_trial(agent.name, holder, is_well=None)
        return full

    def _figures(self, agent: Agent, asked: str, state: RunState) -> Figures:
        model, load = agent.model or state.goal.model, self.slots.load(agent.name)
        return self.outlook.figures(agent, asked, lifecycle=self.lifecycle, model=model, load=load)

    def _leaves(self, holder: str, asked: str, able: Sequence[Agent], model: str) -> bool:
        """Whether the task is left, once and for a moment, to a worker that has its local model loaded."""
        if holder in self._left or not able:
            return False
        if not all(self.outlook.is_elsewhere(a.model or model, asked) for a in able):
            return False
        while len(self._left) >= KEPT:
            del self._left[next(iter(self._left))]
        self._left[holder] = None
        self.slots.leave(asked)
        returning = asyncio.create_task(self._return_to(asked))
        self._returns.add(returning)
        returning.add_done_callback(self._returns.discard)
        return True

    async def _return_to(self, capability: str) -> None:
        await self._clock.sleep(STICKY_S)
        self.slots.return_to(capability)
        self.freed.set()
