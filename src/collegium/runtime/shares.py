"""Shares: how many tasks of one tenant, and of one agent, are worked on at once in all processes together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from collegium.domain.agent import Agent
from collegium.domain.errors import CollegiumError
from collegium.ports import Clock, Quota

TTL_S: Final = 15.0
"""A place whose holder is dead is free again after so long; whoever works renews it once a second."""
FIRST_S: Final = 0.1
"""So soon a task that found no place asks again."""
APART_S: Final = 0.01
LONGEST_S: Final = 30.0


class Caps(msgspec.Struct, frozen=True, kw_only=True):
    """How many tasks of each tenant may be worked on at once; ``tenants`` says it for single ones. None: any number."""

    tenant_tasks: int | None = None
    tenants: Mapping[str, int] = msgspec.field(default_factory=dict)

    def of(self, tenant: str) -> int | None:
        """The number that holds for ``tenant``."""
        return self.tenants.get(tenant, self.tenant_tasks)


class Shares:
    """Places of tenants and agents, taken together or not at all. Without limits nothing is asked of anybody.

    Those who found no place come back one after the other, a hundred in a second: however many wait, a place that
    becomes free is soon taken, and asking costs no worker its time.
    """

    def __init__(self, quota: Quota | None, caps: Caps, *, clock: Clock) -> None:
        self._quota = quota
        self._caps = caps
        self._clock = clock
        self._held: dict[str, tuple[tuple[str, int], ...]] = {}
        self._next_s: dict[str, float] = {}

    def wanted(self, tenant: str, agent: Agent) -> tuple[tuple[str, int], ...]:
        """The buckets that a task needs a place in, and how many places each has."""
        if self._quota is None:
            return ()
        most = self._caps.of(tenant)
        mine = () if most is None else ((f"tenant:{tenant}", most),)
        fleet = agent.max_concurrent_fleet
        return mine if fleet is None else (*mine, (f"agent:{agent.name}", fleet))

    async def take(self, holder: str, wanted: tuple[tuple[str, int], ...]) -> str | None:
        """None when ``holder`` has a place in all of ``wanted``; else the bucket that is full, and it has none.

        A quota that is away lets everybody through: what it holds apart may then overlap, nothing is lost.
        """
        if self._quota is None:
            return None
        taken: list[tuple[str, int]] = []
        try:
            for bucket, most in wanted:
                if not await self._quota.hold(f"tasks:{bucket}", holder, limit=most, ttl_s=TTL_S):
                    for had, _ in taken:
                        await self._quota.release(f"tasks:{had}", holder)
                    return bucket
                taken.append((bucket, most))
        except CollegiumError:
            pass  # it is asked again with the next renewal
        self._held[holder] = wanted
        return None

    async def release(self, holder: str) -> None:
        """The work is done; twice is harmless."""
        for bucket, _ in self._held.pop(holder, ()):
            if self._quota is not None:
                try:
                    await self._quota.release(f"tasks:{bucket}", holder)
                except CollegiumError:
                    return  # it is free by itself soon

    async def renew(self) -> None:
        """Keeps all places that are held here; called once a second."""
        for holder, buckets in list(self._held.items()):
            for bucket, most in buckets:
                if self._quota is not None and holder in self._held:
                    await self._quota.hold(f"tasks:{bucket}", holder, limit=most, ttl_s=TTL_S)

    def later_s(self, bucket: str) -> float:
        """In how many seconds the next who found ``bucket`` full may ask again."""
        now_s = self._clock.monotonic()
        due_s = max(now_s + FIRST_S, self._next_s.get(bucket, 0.0) + APART_S)
        due_s = min(due_s, now_s + LONGEST_S)
        self._next_s[bucket] = due_s
        return due_s - now_s
