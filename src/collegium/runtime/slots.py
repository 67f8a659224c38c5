"""Slots: how many tasks each agent of this process works on, and whether one more may come."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from collegium.agents.roster import Roster
from collegium.domain.agent import Agent
from collegium.runtime.router import Route, route


class Slots:
    """Holds agents to their ``max_concurrent``.

    A task is promised a slot when its message is claimed, and takes one when it is known which agent gets it.
    """

    def __init__(self, roster: Roster, capabilities: Sequence[str]) -> None:
        self._able = {c: roster.able(c) for c in capabilities}
        self._load: Counter[str] = Counter()
        self._promises: dict[object, str] = {}
        self._promised: Counter[str] = Counter()

    def serve(self, roster: Roster) -> None:
        """Takes tasks as well whose capability nobody has any more but agents of ``roster``, kept for old runs."""
        for capability in roster.capabilities:
            self._able.setdefault(capability, roster.able(capability))

    def open(self) -> dict[str, int]:
        """The capabilities for which somebody has room, and how many more tasks fit."""
        room = {c: self._room(c) for c in self._able}
        return {c: n for c, n in room.items() if n > 0}

    @property
    def is_any_full(self) -> bool:
        """Whether tasks of some capability have to wait."""
        return any(self._room(c) <= 0 for c in self._able)

    def promise(self, somebody: object, capability: str) -> None:
        """``somebody`` will soon ask for a slot."""
        self._promises[somebody] = capability
        self._promised[capability] += 1

    def withdraw(self, somebody: object) -> None:
        """They do so now, or never will; twice is harmless."""
        capability = self._promises.pop(somebody, None)
        if capability is not None:
            self._promised[capability] -= 1

    def able(self, capability: str) -> tuple[Agent, ...]:
        """All agents that have the capability."""
        return tuple(self._able.get(capability, ()))

    def take(
        self,
        capability: str,
        *,
        before: str | None,
        avoided: frozenset[str] = frozenset(),
        able: tuple[Agent, ...] | None = None,
    ) -> Route | None:
        """The chosen agent, its slot taken; None when all who could do it are full.

        An agent that had the task's attempt before is waited for: the conversation is its own. Agents that are
        ``avoided`` get it only where there is nobody else. ``able``: choose among these, kept versions of agents,
        instead of all that have the capability.

        Raises UnknownName when nobody has the capability.
        """
        able = self.able(capability) if able is None else able
        able = tuple(a for a in able if a.name not in avoided) or able
        if before is not None and any(a.name == before for a in able):
            able = tuple(a for a in able if a.name == before)
        free = [a for a in able if self._load[a.name] < a.max_concurrent]
        if able and not free:
            return None
        chosen = route(capability, free, self._load, before=before)
        self._load[chosen.agent.name] += 1
        return chosen

    def release(self, agent: str) -> None:
        """Gives a slot back."""
        self._load[agent] -= 1

    def _room(self, capability: str) -> int:
        room = -self._promised.get(capability, 0)
        for agent in self._able[capability]:
            room += max(0, agent.max_concurrent - self._load.get(agent.name, 0))
        return room
