"""Slots: how many tasks each agent of this process works on, and whether one more may come."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import msgspec

from collegium.agents.roster import Roster
from collegium.domain.agent import Agent
from collegium.runtime.router import Figures, Route, Wanted, route

NOTHING: Mapping[str, Figures] = {}


class Slots:
    """Holds agents to their ``max_concurrent``.

    A task is promised a slot when its message is claimed, and takes one when it is known which agent gets it.

    Args:
        takes: How many tasks an agent may have at most by its condition; None for as many as it likes.
    """

    def __init__(
        self, roster: Roster, capabilities: Sequence[str], *, takes: Callable[[str], int | None] = lambda _: None
    ) -> None:
        self._able = {c: roster.able(c) for c in capabilities}
        self._takes = takes
        self._load: Counter[str] = Counter()
        self._promises: dict[object, str] = {}
        self._promised: Counter[str] = Counter()
        self._left_to_others: set[str] = set()

    def serve(self, roster: Roster) -> None:
        """Takes tasks as well whose capability nobody has any more but agents of ``roster``, kept for old runs."""
        for capability in roster.capabilities:
            self._able.setdefault(capability, roster.able(capability))

    def open(self) -> dict[str, int]:
        """The capabilities for which somebody has room, and how many more tasks fit."""
        room = {c: self._room(c) for c in self._able if c not in self._left_to_others}
        return {c: n for c, n in room.items() if n > 0}

    @property
    def is_any_full(self) -> bool:
        """Whether tasks of some capability have to wait."""
        return bool(self._left_to_others) or any(self._room(c) <= 0 for c in self._able)

    @property
    def agents(self) -> tuple[Agent, ...]:
        """Everybody who may get a task here, by name."""
        return tuple(sorted({a.name: a for able in self._able.values() for a in able}.values(), key=lambda a: a.name))

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

    def load(self, agent: str) -> int:
        """Tasks it works on here."""
        return self._load[agent]

    def take(
        self, wanted: Wanted, able: Sequence[Agent] | None = None, figures: Mapping[str, Figures] = NOTHING
    ) -> Route | None:
        """The chosen agent, its slot taken; None when all who could do it are full or take nothing.

        Args:
            wanted: What the task wants.
            able: Choose among these, kept versions of agents or near ones, instead of all that have the capability.
            figures: What is known of them beside the load here.

        Raises UnknownName when nobody has the capability.
        """
        able = self.able(wanted.capability) if able is None else able
        seen = {a.name: msgspec.structs.replace(figures.get(a.name, _PLAIN), load=self._load[a.name]) for a in able}
        chosen = route(wanted, able, seen)
        if chosen is not None:
            self._load[chosen.agent.name] += 1
        return chosen

    def release(self, agent: str) -> None:
        """Gives a slot back."""
        self._load[agent] -= 1

    def leave(self, capability: str) -> None:
        """Takes no tasks of ``capability`` until ``return_to``: another worker is better at hand for them."""
        self._left_to_others.add(capability)

    def return_to(self, capability: str) -> None:
        """Takes them again; twice is harmless."""
        self._left_to_others.discard(capability)

    def _room(self, capability: str) -> int:
        room = -self._promised.get(capability, 0)
        for agent in self._able[capability]:
            takes = self._takes(agent.name)
            most = agent.max_concurrent if takes is None else min(takes, agent.max_concurrent)
            room += max(0, most - self._load.get(agent.name, 0))
        return room


_PLAIN = Figures()
