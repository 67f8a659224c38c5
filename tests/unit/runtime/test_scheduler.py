"""The scheduler over a real store: what shares a commit, and what becomes of callers that go away."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from collegium.adapters.clock import SystemClock
from collegium.adapters.memory.bus import MemoryBus
from collegium.adapters.presence import MemoryPresence
from collegium.adapters.sqlite.store import SqliteStore, open_store
from collegium.domain import body as b
from collegium.domain.chat import ChatMessage, ToolCall
from collegium.domain.decision import Decision
from collegium.domain.errors import Fenced
from collegium.domain.goal import Goal
from collegium.domain.head import Fence
from collegium.domain.ids import Ids
from collegium.domain.message import work_topic
from collegium.domain.plan import Plan, Task
from collegium.domain.usage import Limits, Usage
from collegium.runtime.recovery import Recovery
from collegium.runtime.scheduler import Scheduler
from collegium.testing.clock import FakeClock
from collegium.tools.canonical import arguments_sha256

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


@pytest.mark.parametrize("is_parked", [True, False])
@pytest.mark.parametrize("how", ["deadline", "cancel"])
async def test_whoever_ends_a_run_tells_of_the_writes_that_lost_attempts_have_left_open(
    store: SqliteStore, how: str, *, is_parked: bool
) -> None:
    clock = FakeClock()
    one = Scheduler(store.journal, MemoryBus(clock), clock=clock, ids=Ids(lambda: 1_000))
    goal = Goal(text="Look", plan=PLAN, limits=Limits(deadline_s=60))
    await one.submit("run_a", "acme", b.RunSubmitted(goal=goal))
    started = b.TaskStarted(worker="wrk_dead", agent="looker", agent_version="1", model="m")
    await one.propose("run_a", lambda _: [Decision(body=started, task="t0", attempt=1)])
    call = ToolCall(id="c0", name="pay", arguments={})
    proposed = b.StepProposed(
        step=1,
        added=(),
        reply=ChatMessage(role="assistant", text="", tool_calls=(call,)),
        finish="tool_calls",
        model="m",
        request_sha256="0",
        usage=Usage(model_calls=1),
    )
    intended = b.ToolIntended(
        step=1,
        call=0,
        key="run_a-0",
        tool="pay",
        tool_version="1",
        effect="write",
        arguments={},
        arguments_sha256=arguments_sha256({}),
    )
    await one.record("run_a", "acme", [proposed, intended], fence=Fence(task="t0", attempt=1)).durable()
    lapsed = b.TaskLapsed(worker="wrk_dead", has_progressed=True, usage=Usage(model_calls=1))
    parked = b.TaskParked(reason="delay", wake_at=clock.now() + timedelta(seconds=90), detail="too early to judge")
    await one.propose("run_a", lambda _: [Decision(body=lapsed, task="t0", attempt=1)])
    if is_parked:
        again = Decision(body=msgspec.structs.replace(started, worker="wrk_b"), task="t0", attempt=2)
        await one.propose("run_a", lambda _: [again])
        await one.propose("run_a", lambda _: [Decision(body=parked, task="t0", attempt=2)])
    if how == "deadline":
        await clock.advance(61)
    ended = b.RunCancelRequested(principal="ada") if how == "cancel" else b.RunSaid(text="well?", principal="ada")
    state = await one.propose("run_a", lambda _: [Decision(body=ended)])
    assert state.finished is not None
    assert state.status == ("cancelled" if how == "cancel" else "limited")
    assert any("pay may or may not have happened" in m for m in state.finished.missing)
