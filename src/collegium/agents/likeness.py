"""Likeness: who comes nearest to a capability that nobody declares, by words and by meaning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from collegium.agents.roster import Roster
from collegium.domain.agent import Agent
from collegium.domain.plan import Plan
from collegium.domain.text import terms
from collegium.ports import Embedder

THRESHOLD: Final = 0.4
"""Below it, nobody is near: with the packaged vectors unrelated words come to 0.3 at most."""
DESCRIPTION_WEIGHT: Final = 0.7
"""A word that only stands in a description counts less than one that names a capability."""
KEPT: Final = 1_024
_NEVER: Final = frozenset({"planner", "overseer"})
"""Kinds that do nothing of what a plan asks for in other words."""


class Near(msgspec.Struct, frozen=True, kw_only=True):
    """Agents that are near enough, with how near, from 0 to 1; ``capability`` is what the nearest declares."""

    capability: str
    agents: dict[str, float]


class Likeness:
    """Compares what is asked for with what agents declare and are described as.

    Args:
        roster: The agents.
        embedder: Gives meaning to words; without one only the words themselves are compared.
    """

    def __init__(self, roster: Roster, embedder: Embedder | None) -> None:
        self._roster = roster
        self._declared = frozenset(roster.capabilities)
        self._agents = tuple(sorted((a for a in roster if a.kind not in _NEVER), key=lambda a: a.name))
        self._embedder = embedder
        self._vectors: dict[str, Sequence[float]] = {}
        self._known: dict[tuple[str, str], Near | None] = {}

    async def near(self, capability: str, title: str = "") -> Near | None:
        """Who comes near to ``capability``; None when it is declared, and when nobody does.

        ``title`` is that of a task: it moves who is the nearest, not whether anybody is near.
        """
        if capability in self._declared:
            return None
        key = capability, title
        if key not in self._known:
            while len(self._known) >= KEPT:
                del self._known[next(iter(self._known))]
            self._known[key] = await self._near(capability, title)
        return self._known[key]

    async def topic(self, capability: str) -> str:
        """The declared capability under which tasks of ``capability`` are handed out."""
        near = await self.near(capability)
        return capability if near is None else near.capability

    async def accepted(self, plan: Plan) -> tuple[str, ...]:
        """All that tasks may ask for: what is declared, and what ``plan`` asks for and somebody comes near to."""
        near = [t.capability for t in plan.tasks if await self.near(t.capability) is not None]
        return (*self._roster.capabilities, *near)

    async def _near(self, capability: str, title: str) -> Near | None:
        plain = {a.name: await self._likeness(capability, a) for a in self._agents}
        found = {name: score for name, score in plain.items() if score >= THRESHOLD}
        if not found:
            return None
        if title:
            told = {a.name: await self._likeness(f"{capability} {title}", a) for a in self._agents if a.name in found}
            found = {name: (score + max(score, told[name])) / 2 for name, score in found.items()}
        best = min(found, key=lambda name: (-plain[name], name))
        return Near(capability=await self._nearest(capability, self._roster.get(best)), agents=found)

    async def _nearest(self, capability: str, agent: Agent) -> str:
        """What of the agent's own capabilities is nearest."""
        scores = {c: max(_overlap(capability, c), await self._cosine(capability, c)) for c in agent.capabilities}
        return min(scores, key=lambda c: (-scores[c], c))

    async def _likeness(self, text: str, agent: Agent) -> float:
        declared = max((_overlap(text, c) for c in agent.capabilities), default=0.0)
        described = DESCRIPTION_WEIGHT * _overlap(text, agent.description)
        meant = [await self._cosine(text, c) for c in (" ".join(agent.capabilities), _described(agent))]
        return min(1.0, max(declared, described, *meant))

    async def _cosine(self, one: str, other: str) -> float:
        if self._embedder is None:
            return 0.0
        if len(self._vectors) >= KEPT:
            self._vectors.clear()
        missing = [t for t in dict.fromkeys((one, other)) if t not in self._vectors]
        if missing:
            for text, vector in zip(missing, await self._embedder.embed(missing), strict=True):
                self._vectors[text] = vector
        pair = zip(self._vectors[one], self._vectors[other], strict=True)
        return float(sum(float(a) * float(b) for a, b in pair))


def _described(agent: Agent) -> str:
    return f"{' '.join(agent.capabilities)}: {agent.description}"


def _overlap(text: str, other: str) -> float:
    """The share of the terms of ``text`` that stand in ``other``."""
    wanted = set(terms(_plain(text)))
    return len(wanted & set(terms(_plain(other)))) / len(wanted) if wanted else 0.0


def _plain(name: str) -> str:
    return name.replace("-", " ").replace("_", " ").replace("/", " ")
