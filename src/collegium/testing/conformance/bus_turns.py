"""How tenants share every ``Bus``: by turns, as their weights say, however much one of them has to do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collegium.domain.message import Claim
from collegium.ports import Bus, Clock
from collegium.testing.clock import FakeClock
from collegium.testing.conformance.bus import AGING_S, HIDE_S, MAX_DELIVERIES, RULES, message

FLOOD = 10_000
SHARE = 0.1
TENANTS = ("single", "double", "quadruple")
ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.sampled_from(TENANTS), st.integers(0, 3), st.integers(1, 6)),
        st.tuples(st.just("claim"), st.integers(1, 5)),
        st.tuples(st.sampled_from(["settle", "give back", "kill"]), st.integers(0, 99)),
        st.tuples(st.just("pass"), st.sampled_from([1.0, HIDE_S / 2, HIDE_S, 2 * AGING_S])),
    ),
    max_size=60,
)


@pytest.mark.asyncio
class BusTurnsConformance(ABC):
    """Subclass it as ``Test...`` and implement ``open``."""

    @abstractmethod
    def open(self, clock: Clock) -> AbstractAsyncContextManager[Bus]:
        """An empty bus with the ``RULES`` of ``conformance.bus``, closed at exit."""

    @pytest.mark.parametrize("limit", [1, 7])
    async def test_one_tenant_floods_and_the_others_have_their_share(self, limit: int) -> None:
        async with self.open(FakeClock()) as bus:
            await _publish(bus, "flood", FLOOD, priority=0)
            others = [f"t{n}" for n in range(9)]
            for tenant in others:
                await _publish(bus, tenant, 100)
            served = await _served(bus, 500, limit=limit)
            fair = 500 / 10
            for tenant in (*others, "flood"):
                assert abs(served[tenant] - fair) <= SHARE * fair, (tenant, served)

    async def test_weights_are_shares(self) -> None:
        async with self.open(FakeClock()) as bus:
            for tenant in TENANTS:
                await _publish(bus, tenant, 500)
            served = await _served(bus, 700)
            for tenant, fair in zip(TENANTS, (100, 200, 400), strict=True):
                assert abs(served[tenant] - fair) <= SHARE * fair, served

    async def test_turns_are_taken_across_topics(self) -> None:
        async with self.open(FakeClock()) as bus:
            await _publish(bus, "a", 200)
            await _publish(bus, "b", 200, topic="tasks.b")
            await _publish(bus, "c", 100)
            await _publish(bus, "c", 100, topic="tasks.b")
            served = await _served(bus, 150, topics=["tasks.a", "tasks.b"])
            for tenant in "abc":
                assert abs(served[tenant] - 50) <= SHARE * 50, served

    async def test_who_had_nothing_to_do_has_saved_up_nothing(self) -> None:
        async with self.open(FakeClock()) as bus:
            await _publish(bus, "late", 1)
            await _publish(bus, "early", 300)
            await _served(bus, 101)
            await _publish(bus, "late", 100)
            served = await _served(bus, 40)
            assert abs(served["late"] - 20) <= 2, served

    async def test_who_works_off_one_by_one_does_not_starve_the_others(self) -> None:
        async with self.open(FakeClock()) as bus:
            await _publish(bus, "waiting", 40)
            served: Counter[str] = Counter()
            for n in range(40):
                await bus.publish(message(f"eager {n}", tenant="eager"))
                served += await _served(bus, 1)
            assert abs(served["waiting"] - 20) <= 2, served

    async def test_urgent_messages_of_one_tenant_take_no_turns_of_another(self) -> None:
        async with self.open(FakeClock()) as bus:
            await _publish(bus, "calm", 20, priority=3)
            await _publish(bus, "urgent", 100, priority=0)
            served = await _served(bus, 20)
            assert abs(served["calm"] - 10) <= 1, served

    async def test_each_group_has_turns_of_its_own(self) -> None:
        async with self.open(FakeClock()) as bus:
            for tenant in ("a", "b"):
                await _publish(bus, tenant, 20)
            assert await _served(bus, 40) == {"a": 20, "b": 20}
            for tenant in ("a", "b"):
                await _publish(bus, tenant, 20, name="more")
            assert await _served(bus, 20, group="others") == {"a": 10, "b": 10}

    @settings(
        max_examples=60,
        suppress_health_check=[HealthCheck.differing_executors, HealthCheck.function_scoped_fixture],
    )
    @given(actions=ACTIONS)
    async def test_whatever_happens_tenants_take_turns_and_nothing_is_lost(
        self, actions: list[tuple[str | int | float, ...]]
    ) -> None:
        clock = FakeClock()
        async with self.open(clock) as bus:
            await bus.claim(["tasks.a"], "workers")
            model = _Model(clock)
            for action in actions:
                await _act(bus, model, clock, action)
            await clock.advance(HIDE_S)
            while claims := await bus.claim(["tasks.a"], "workers", 3):
                model.claimed(claims)
                for claim in claims:
                    await bus.settle(claim)
                    model.settled(claim)
            model.lapse()
            assert model.waiting == {}
            letters = await bus.letters("tasks.a", limit=10_000)
            assert sorted(x.message.id for x in letters) == sorted(model.dead)


@dataclass
class _Known:
    """What is known of a message: ``(rank, number)`` orders it among those of its tenant."""

    tenant: str
    place: tuple[float, int]
    deliveries: int = 0
    lapses: int = 0
    until_s: float | None = None


@dataclass
class _Model:
    """What a bus has to do, in a few lines: of any two tenants that both have work, none falls behind by a turn."""

    clock: FakeClock
    waiting: dict[str, _Known] = field(default_factory=dict)
    dead: list[str] = field(default_factory=list)
    held: list[Claim] = field(default_factory=list)
    _numbers: int = 0
    _served: dict[tuple[str, str], float] = field(default_factory=dict)
    """By two tenants that both have work: how much more of its share the first got than the second since then."""

    def publish(self, tenant: str, priority: int) -> str:
        self._numbers += 1
        name = f"m{self._numbers}"
        self.waiting[name] = _Known(tenant, (self.clock.monotonic() + priority * AGING_S, self._numbers))
        return name

    def claimed(self, claims: Sequence[Claim]) -> None:
        self.lapse()
        for claim in claims:
            self._forget_idle()
            known = self.waiting[claim.message.id]
            first = min((w.place, name) for name, w in self._ready() if w.tenant == known.tenant)
            assert first[1] == claim.message.id, "urgent first, then oldest"
            known.deliveries += 1
            known.until_s = self.clock.monotonic() + HIDE_S
            assert claim.message.deliveries == known.deliveries
            self._count(known.tenant)
        self.held += claims

    def _count(self, tenant: str) -> None:
        for other in {w.tenant for _, w in self._ready()} - {tenant}:
            for pair, sign in (((tenant, other), 1), ((other, tenant), -1)):
                ahead = self._served[pair] = self._served.get(pair, 0.0) + sign * RULES.turn(tenant)
                assert abs(ahead) <= RULES.turn(tenant) + RULES.turn(other) + 1e-6, (pair, ahead)

    def settled(self, claim: Claim) -> None:
        self.waiting.pop(claim.message.id, None)

    def lapse(self) -> None:
        """What was hidden long enough is there again, or dead."""
        for name, known in list(self.waiting.items()):
            if known.until_s is not None and known.until_s <= self.clock.monotonic():
                known.until_s = None
                known.lapses += 1
                if known.lapses == MAX_DELIVERIES:
                    self.dead.append(name)
                    del self.waiting[name]

    def _ready(self) -> list[tuple[str, _Known]]:
        return [(name, w) for name, w in self.waiting.items() if w.until_s is None]

    def _forget_idle(self) -> None:
        busy = {w.tenant for _, w in self._ready()}
        self._served = {pair: ahead for pair, ahead in self._served.items() if busy.issuperset(pair)}


async def _act(bus: Bus, model: _Model, clock: FakeClock, action: tuple[str | int | float, ...]) -> None:
    match action:
        case ("publish", str(tenant), int(priority), int(count)):
            names = [model.publish(tenant, priority) for _ in range(count)]
            new = await bus.publish(*(message(name, tenant=tenant, priority=priority) for name in names))
            assert new == count
        case ("claim", int(limit)):
            claims = await bus.claim(["tasks.a"], "workers", limit)
            model.claimed(claims)
            ready = [w for w in model.waiting.values() if w.until_s is None]
            assert len(claims) == limit or not ready, "all that may be claimed is"
        case ("pass", float(seconds)):
            await clock.advance(seconds)
        case (str(how), int(number)) if model.held:
            claim = model.held.pop(number % len(model.held))
            known = model.waiting.get(claim.message.id)
            if known is None or known.until_s is None or known.until_s <= clock.monotonic():
                return  # it has lapsed: what a late settlement does is another test
            if known.deliveries != claim.message.deliveries:
                await bus.settle(claim, dead="stale")
            elif how == "settle":
                await bus.settle(claim)
                model.settled(claim)
            elif how == "give back":
                await bus.settle(claim, requeue_after_s=0)
                known.until_s = None
            else:
                await bus.settle(claim, dead="no")
                model.dead.append(claim.message.id)
                model.settled(claim)


async def _publish(
    bus: Bus, tenant: str, count: int, *, priority: int = 2, topic: str = "tasks.a", name: str = ""
) -> None:
    for start in range(0, count, 1_000):
        numbers = range(start, min(count, start + 1_000))
        await bus.publish(*(message(f"{tenant}{name}{n}", topic, tenant=tenant, priority=priority) for n in numbers))


async def _served(
    bus: Bus, count: int, *, topics: Sequence[str] = ("tasks.a",), group: str = "workers", limit: int = 1
) -> Counter[str]:
    """How many messages of each tenant are claimed and settled, of the next ``count``."""
    served: Counter[str] = Counter()
    while served.total() < count:
        claims = await bus.claim(topics, group, min(limit, count - served.total()))
        assert claims, "there is enough"
        for claim in claims:
            await bus.settle(claim)
            served[claim.message.tenant] += 1
    return served
