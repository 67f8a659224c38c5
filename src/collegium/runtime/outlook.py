"""Outlook: what a worker knows of the others and of the queues, a second old at most; for balance, never for truth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from collegium.agents.roster import digest
from collegium.domain.agent import Agent
from collegium.domain.errors import CollegiumError
from collegium.domain.message import work_topic
from collegium.domain.worker import AgentCard, WorkerCard
from collegium.ports import Bus, Directory
from collegium.runtime.health import MAX_SHARE, MIN_FAILURES, Health
from collegium.runtime.lifecycle import Lifecycle
from collegium.runtime.router import Figures, rating

LOCAL: Final = "local:"


class Outlook:
    """Puts together what is known of each agent: here, in the fleet, and on the queues.

    Args:
        worker: The id of this process's worker.
        directory: Where the others show themselves; None where there are none.
        health: How attempts ended here.
        loaded: Names of the local models that are loaded here.
    """

    def __init__(
        self,
        worker: str,
        *,
        directory: Directory | None,
        bus: Bus,
        health: Health,
        loaded: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        self._worker = worker
        self._directory = directory
        self._bus = bus
        self._health = health
        self._loaded = loaded
        self._others: tuple[WorkerCard, ...] = ()
        self._sums: dict[str, AgentCard] = {}
        self._waiting: dict[str, int] = {}

    async def look(self, agents: Sequence[Agent]) -> None:
        """Looks at the other workers' cards, and at the queues of ``agents`` that have a choice of what to do."""
        if self._directory is not None:
            try:
                cards = await self._directory.cards()
            except CollegiumError:
                cards = ()  # then each is on its own for a while
            self._others = tuple(c for c in cards if c.worker != self._worker)
            self._sums = _summed(self._others)
        self._waiting = await self._queues(agents)

    def figures(self, agent: Agent, asked: str, *, lifecycle: Lifecycle, model: str, load: int) -> Figures:
        """What is known of ``agent`` for a task of the capability ``asked`` that would ask ``model``."""
        ended, others = self._health.outcomes(agent.name), self._sums.get(agent.name)
        return Figures(
            condition=lifecycle.condition(agent.name),
            is_on_trial=lifecycle.may_try(agent.name),
            attempts=ended.attempts + (others.attempts if others else 0),
            failures=ended.failures + (others.failures if others else 0),
            fleet_load=load + others.load if others else 0,
            fleet_max=self._fleet_max(agent, others),
            waiting=sum(n for c, n in self._waiting.items() if c != asked and c in agent.capabilities),
            seconds=ended.seconds or (others.seconds if others else 0.0),
            is_at_hand=model in self._loaded() if model.startswith(LOCAL) else None,
        )

    def is_elsewhere(self, model: str, capability: str) -> bool:
        """Whether a local model is loaded in another worker that has room for it, and not in this one."""
        if not model.startswith(LOCAL) or not self._others or model in self._loaded():
            return False
        return any(
            model in c.models and c.state == "ready" and capability in c.capabilities and c.load < c.concurrency
            for c in self._others
        )

    def complaint(self, agent: str) -> str | None:
        """What is wrong with an agent that fails too often here, unless it does well in the other workers."""
        complaint, others = self._health.complaint(agent), self._sums.get(agent)
        if complaint is None or others is None or others.attempts < MIN_FAILURES:
            return complaint
        return complaint if others.failures > MAX_SHARE * others.attempts else None

    def cards(
        self,
        agents: Sequence[Agent],
        *,
        lifecycle: Lifecycle,
        load: Callable[[str], int],
        is_present: Callable[[str], bool],
    ) -> tuple[AgentCard, ...]:
        """The cards of ``agents`` in this worker; those that are not ``is_present`` in the roster are retired."""
        return tuple(self._card(a, lifecycle, load(a.name), is_present=is_present(a.name)) for a in agents)

    def _card(self, agent: Agent, lifecycle: Lifecycle, load: int, *, is_present: bool) -> AgentCard:
        ended, standing = self._health.outcomes(agent.name), lifecycle.standing(agent.name)
        said = "active" if standing is None else standing.condition
        return AgentCard(
            name=agent.name,
            version=digest(agent),
            capabilities=agent.capabilities,
            condition=said if is_present else "retired",
            load=load,
            max_concurrent=agent.max_concurrent,
            attempts=ended.attempts,
            failures=ended.failures,
            seconds=round(ended.seconds, 3),
            p95_s=round(ended.p95_s, 3),
            rating=round(rating(agent.rating, attempts=ended.attempts, failures=ended.failures), 4),
        )

    def _fleet_max(self, agent: Agent, others: AgentCard | None) -> int:
        fleet = agent.max_concurrent + others.max_concurrent if others else 0
        most = agent.max_concurrent_fleet
        return fleet if most is None or not fleet else min(fleet, most)

    async def _queues(self, agents: Sequence[Agent]) -> dict[str, int]:
        """How many tasks wait, by capability, where that can say anything about whom to choose."""
        shared = {c for a in agents for b in agents if a is not b for c in a.capabilities if c in b.capabilities}
        torn = {c for a in agents if shared & set(a.capabilities) and len(a.capabilities) > 1 for c in a.capabilities}
        try:
            return {c: await self._bus.depth([work_topic(c)]) for c in sorted(torn)}
        except CollegiumError:
            return {}


def _summed(cards: Sequence[WorkerCard]) -> dict[str, AgentCard]:
    """One card for each agent, over all workers; ``seconds`` is the mean of their medians by attempts."""
    sums: dict[str, AgentCard] = {}
    for card in (a for c in cards if c.state == "ready" for a in c.agents):
        so_far = sums.get(card.name)
        sums[card.name] = card if so_far is None else _added(so_far, card)
    return sums


def _added(one: AgentCard, other: AgentCard) -> AgentCard:
    attempts = one.attempts + other.attempts
    seconds = (one.seconds * one.attempts + other.seconds * other.attempts) / attempts if attempts else 0.0
    return msgspec.structs.replace(
        one,
        load=one.load + other.load,
        max_concurrent=one.max_concurrent + other.max_concurrent,
        attempts=attempts,
        failures=one.failures + other.failures,
        seconds=seconds,
        p95_s=max(one.p95_s, other.p95_s),
    )


def fleet_cards(cards: Sequence[WorkerCard]) -> dict[str, AgentCard]:
    """How each agent does over all workers, by name: for people."""
    return _summed(cards)
