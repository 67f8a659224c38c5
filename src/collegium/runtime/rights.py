"""Rights of agents: what all may that it comes from, whoever asked for the run first of all."""

from __future__ import annotations

from collections.abc import Collection

from collegium.agents.roster import Roster
from collegium.domain.agent import Agent
from collegium.domain.goal import Goal
from collegium.domain.principal import SCOPES, Principal, agent_of
from collegium.domain.run import RunState


def rights(state: RunState, task: str, agent: Agent, roster: Roster) -> frozenset[str]:
    """The scopes of ``agent`` in ``task``: those that whoever asked for the run, its own role and each asker have.

    A colleague who was asked has no more than who asks, and so on up to the task of the plan. What the task may use of
    these is said by its list of tools.
    """
    asker = _user(state.goal, state.tenant)
    for one in (*_askers(state, task, roster), agent.scopes):
        asker = agent_of(asker, agent.name, role=SCOPES if one is None else one)
    return asker.scopes


def _user(goal: Goal, tenant: str) -> Principal:
    scopes = SCOPES if goal.scopes is None else frozenset(goal.scopes)
    return Principal(id=goal.principal, tenant=tenant, scopes=scopes, kind="user")


def _askers(state: RunState, task: str, roster: Roster) -> list[Collection[str] | None]:
    """What those may by their roles that the task was handed on by, the nearest first."""
    found: list[Collection[str] | None] = []
    here, seen = state.tasks.get(task), {task}
    while here is not None and here.asked is not None and here.asked.by not in seen:
        by = here.asked.by
        seen.add(by)
        here = state.tasks.get(by)
        name = None if here is None else here.agent
        # In a fork nobody has begun on it yet: any of them might be the one.
        found += [a.scopes for a in roster if name in (None, a.name)]
    return found
