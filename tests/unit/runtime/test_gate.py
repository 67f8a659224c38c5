"""The gate before every call: open while the worker beats; afterwards only for who still has the task."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest

from collegium.adapters.presence import MemoryPresence
from collegium.domain import body as b
from collegium.domain.decision import Decision
from collegium.domain.errors import Fenced
from collegium.domain.goal import Goal
from collegium.domain.head import Fence
from collegium.domain.ids import Ids
from collegium.domain.plan import Plan, Task
from collegium.runtime.gate import Gate
from collegium.runtime.scheduler import Scheduler
from collegium.testing.clock import FakeClock
from collegium.testing.harness import memory_stores

LEASE_S = 1.0
FENCE = Fence(task="do", attempt=1)
PLAN = Plan(tasks=(Task(id="do", title="Do it", capability="operate"),))


@dataclass
class Held:
    run: str
    tenant: str = "default"
    agent: str | None = "operator"
    worker: str = "wrk_1"
    fence: Fence = FENCE
    gaps: int = 0


@dataclass(frozen=True)
class Place:
    clock: FakeClock
    presence: MemoryPresence
    scheduler: Scheduler
    others: Scheduler
    gate: Gate
    held: Held


async def never(worker: str) -> float:
    return 0.0


async def begun() -> Place:
    clock = FakeClock()
    stores, ids = memory_stores(clock), Ids(lambda: 1)
    presence = MemoryPresence(clock, lease_s=LEASE_S)
    one, two = (Scheduler(stores.journal, stores.bus, clock=clock, ids=ids) for _ in range(2))
    await presence.announce("wrk_1")
    held = Held(run=ids.run())
    await one.submit(held.run, "default", b.RunSubmitted(goal=Goal(text="x", model="m", principal="p", plan=PLAN)))
    await one.advance(held.run)
    started = b.TaskStarted(worker="wrk_1", agent="operator", agent_version="1", model="m")
    await one.propose(held.run, lambda _: [Decision(body=started, task="do", attempt=1)], fence=held.fence)
    return Place(clock, presence, one, two, Gate(presence, one, clock=clock, silence=never), held)


async def lapse(place: Place) -> None:
    """Another process takes the task."""
    lapsed = Decision(body=b.TaskLapsed(worker="wrk_1", has_progressed=True), task="do", attempt=1)
    await place.others.propose(place.held.run, lambda _: [lapsed])


async def test_a_fresh_worker_is_admitted_without_giving_way() -> None:
    place = await begun()
    await place.clock.advance(LEASE_S / 2 - 0.01)
    admitting = place.gate.admit(place.held)
    with pytest.raises(StopIteration):
        admitting.send(None)


async def test_a_stale_worker_waits_for_its_next_beat_and_goes_on_with_what_is_still_its_own() -> None:
    place = await begun()
    await place.clock.advance(LEASE_S)
    admitting = asyncio.ensure_future(place.gate.admit(place.held, tool="pay"))
    await place.clock.advance(10 * LEASE_S)
    assert not admitting.done()
    place.presence.tick()
    await place.clock.advance(LEASE_S / 10)
    await asyncio.wait_for(admitting, 10)


@pytest.mark.parametrize("tool", [None, "pay"])
async def test_a_worker_that_lost_its_task_while_it_stood_still_is_refused(tool: str | None) -> None:
    place = await begun()
    await place.clock.advance(2 * LEASE_S)
    await lapse(place)
    admitting = asyncio.ensure_future(place.gate.admit(place.held, tool=tool))
    await place.clock.advance(LEASE_S / 10)
    place.presence.tick()
    await place.clock.advance(LEASE_S / 10)
    with pytest.raises(Fenced, match="the task was taken from it"):
        await asyncio.wait_for(admitting, 10)


async def test_a_worker_that_beats_again_before_it_calls_is_refused_all_the_same() -> None:
    place = await begun()
    await place.clock.advance(2 * LEASE_S)
    await lapse(place)
    place.presence.tick()
    await place.clock.advance(LEASE_S / 10)
    with pytest.raises(Fenced, match="the task was taken from it"):
        await place.gate.admit(place.held)


async def test_a_worker_that_stood_still_looks_once_and_not_before_every_call() -> None:
    place = await begun()
    await place.clock.advance(2 * LEASE_S)
    place.presence.tick()
    await place.gate.admit(place.held)
    assert place.held.gaps == place.presence.gaps() == 1
    await lapse(place)  # nobody could have taken it since: this one's beats have not stood still
    admitting = place.gate.admit(place.held)
    with pytest.raises(StopIteration):
        admitting.send(None)
