"""The scheduler over a real store: what shares a commit, and what becomes of callers that go away."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from collegium.adapters.clock import SystemClock
from collegium.adapters.memory.bus import MemoryBus
from collegium.adapters.presence import MemoryPresence
from collegium.adapters.sqlite.store import SqliteStore, open_store
from collegium.domain import body as b
from collegium.domain.decision import Decision
from collegium.domain.errors import Fenced
from collegium.domain.goal import Goal
from collegium.domain.head import Fence
from collegium.domain.ids import Ids
from collegium.domain.message import work_topic
from collegium.domain.plan import Plan, Task
from collegium.runtime.recovery import Recovery
from collegium.runtime.scheduler import Scheduler
from collegium.testing.clock import FakeClock

PLAN = Plan(tasks=tuple(Task(id=f"t{n}", title="T", capability="look", instructions="Look.") for n in range(3)))


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = open_store(tmp_path / "store.db", linger_s=60)
    yield store
    await store.aclose()


def scheduler(store: SqliteStore, bus: MemoryBus) -> Scheduler:
    return Scheduler(store.journal, bus, clock=SystemClock(), ids=Ids(lambda: 1_000))


async def test_the_first_work_is_decided_with_the_run(store: SqliteStore) -> None:
    bus = MemoryBus(SystemClock())
    one = scheduler(store, bus)
    state = await one.submit("run_a", "acme", b.RunSubmitted(goal=Goal(text="Look", plan=PLAN)))
    assert store.writer.stats.commits == 1
    assert [t.status for t in state.tasks.values()] == ["ready"] * 3
    assert await bus.depth([work_topic("look")]) == 3
    assert await one.load("run_a", is_fresh=True) == state
    head = await store.journal.head("run_a")
    assert head is not None
    assert (head.status, head.deciding_seq) == ("queued", state.deciding_seq)


async def test_a_run_is_accepted_once(store: SqliteStore) -> None:
    submitted = b.RunSubmitted(goal=Goal(text="Look", plan=PLAN))
    first = await scheduler(store, MemoryBus(SystemClock())).submit("run_a", "acme", submitted)
    again = await scheduler(store, MemoryBus(SystemClock())).submit("run_a", "acme", submitted)
    assert again == first


async def test_a_caller_that_is_cancelled_leaves_its_proposal_standing(store: SqliteStore) -> None:
    one = scheduler(store, MemoryBus(SystemClock()))
    await one.submit("run_a", "acme", b.RunSubmitted(goal=Goal(text="Look", plan=PLAN)))
    said = Decision(body=b.RunSaid(text="quick", principal="ada"))
    gone = asyncio.ensure_future(one.propose("run_a", lambda _: [said]))
    other = asyncio.ensure_future(one.propose("run_a", lambda _: [said]))
    await asyncio.sleep(0)
    gone.cancel()
    state = await other
    assert gone.cancelled()
    assert state.said == ("quick", "quick")


async def test_a_fenced_proposal_fails_alone_also_when_its_caller_is_gone(store: SqliteStore) -> None:
    one = scheduler(store, MemoryBus(SystemClock()))
    await one.submit("run_a", "acme", b.RunSubmitted(goal=Goal(text="Look", plan=PLAN)))
    said = Decision(body=b.RunSaid(text="quick", principal="ada"))
    stale = Fence(task="t0", attempt=7)
    fenced = asyncio.ensure_future(one.propose("run_a", lambda _: [said], fence=stale))
    gone = asyncio.ensure_future(one.propose("run_a", lambda _: [said], fence=stale))
    fine = asyncio.ensure_future(one.propose("run_a", lambda _: [said]))
    await asyncio.sleep(0)
    gone.cancel()
    assert (await fine).said == ("quick",)
    with pytest.raises(Fenced):
        await fenced


@pytest.mark.parametrize("own", [3, 51, 60])
async def test_a_sweep_looks_at_the_due_ones_of_its_own_runs_and_at_no_others(store: SqliteStore, own: int) -> None:
    clock = FakeClock()
    one = Scheduler(store.journal, MemoryBus(clock), clock=clock, ids=Ids(lambda: 1_000))
    recovery = Recovery(one, journal=store.journal, presence=MemoryPresence(), clock=clock)
    runs = [f"run_{n:034x}" for n in range(60)]
    for run in runs:
        await one.submit(run, "acme", b.RunSubmitted(goal=Goal(text="Look", plan=PLAN)))
    mine = frozenset(runs[:own])
    assert await recovery.sweep(mine) == 0
    await clock.advance(2)
    assert await recovery.sweep(mine) == own
