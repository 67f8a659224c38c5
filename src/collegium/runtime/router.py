"""Routing: which agent gets a task, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from collegium.domain.agent import Agent
from collegium.domain.errors import UnknownName


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """The chosen agent and the reason, as ``task.routed`` records it."""

    agent: Agent
    reason: str


def route(capability: str, able: Sequence[Agent], load: Mapping[str, int], *, before: str | None = None) -> Route:
    """The agent among ``able`` with the most room, then the best rating, then the first name.

    Args:
        capability: What the task asks for.
        able: The agents that have it.
        load: Tasks each agent works on in this process; missing is 0.
        before: The agent of the task's attempt before: the conversation is its, so it goes on with it.

    Raises UnknownName when nobody has the capability.
    """
    if not able:
        raise UnknownName(f"no agent has the capability {capability!r}", capability=capability)
    same = next((a for a in able if a.name == before), None)
    if same is not None:
        return Route(agent=same, reason="it had the attempt before")
    best = min(able, key=lambda a: (load.get(a.name, 0) / a.max_concurrent, -a.rating, a.name))
    busy = f"{load.get(best.name, 0)} of {best.max_concurrent} tasks, rating {best.rating:.2f}"
    if len(able) == 1:
        return Route(agent=best, reason=f"the only agent for {capability!r}; {busy}")
    return Route(agent=best, reason=f"the most room of {len(able)} agents for {capability!r}; {busy}")
