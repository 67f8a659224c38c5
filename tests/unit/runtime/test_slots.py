"""How many tasks a worker begins: no more of an agent than it may do at once, and nothing beside one that kills."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from collegium.adapters.clock import SystemClock
from collegium.agents.roster import Roster
from collegium.app import Collegium, Stores
from collegium.domain import body as b
from collegium.domain.agent import Agent
from collegium.domain.chat import ModelReply, ModelRequest
from collegium.domain.decision import Decision
from collegium.domain.goal import Goal
from collegium.domain.head import Fence
from collegium.domain.ids import Ids
from collegium.domain.plan import Plan, Task
from collegium.runtime.agenda import Proposal
from collegium.runtime.router import Wanted
from collegium.runtime.scheduler import Scheduler
from collegium.runtime.slots import Slots
from collegium.testing.harness import memory_stores, team
from collegium.testing.scripted import ScriptedModel, Step


def plan(capability: str) -> Plan:
    return Plan(tasks=(Task(id="do", title="Do it", capability=capability, instructions=f"Do {capability}."),))


def agent(name: str, *capabilities: str, at_once: int, rating: float = 0.5) -> Agent:
    return Agent(
        name=name,
        kind="operator",
        description=name,
        capabilities=capabilities,
        prompt="Work.",
        max_concurrent=at_once,
        rating=rating,
    )


class Gauge(ScriptedModel):
    """A model that answers when it is let, and knows how many wait for it, by what they are asked to do."""

    def __init__(self) -> None:
        super().__init__([Step(reply="Done.", times=99)], ordered=False)
        self.waiting: Counter[str] = Counter()
        self.peak: Counter[str] = Counter()
        self.let = asyncio.Event()
        self.seen = asyncio.Condition()

    async def complete(self, request: ModelRequest) -> ModelReply:
        asked = next(w for w in ("Do dig.", "Do sing.", "Do kill.") if w in str(request.messages))
        self.waiting[asked] += 1
        self.peak[asked] = max(self.peak[asked], self.waiting[asked])
        async with self.seen:
            self.seen.notify_all()
        await self.let.wait()
        self.waiting[asked] -= 1
        return await super().complete(request)

    async def until_waiting(self, asked: str, count: int) -> None:
        async with asyncio.timeout(10), self.seen:
            await self.seen.wait_for(lambda: self.waiting[asked] == count)


@pytest.mark.parametrize("at_once", [1, 3])
async def test_an_agent_works_on_no_more_tasks_than_it_may_and_holds_up_nobody_else(at_once: int) -> None:
    model = Gauge()
    agents = [agent("digger", "dig", at_once=at_once), agent("singer", "sing", at_once=9)]
    async with team(model, agents=agents) as app:
        digging = [await app.submit(f"dig {n}", plan=plan("dig")) for n in range(3 * at_once + 1)]
        await model.until_waiting("Do dig.", at_once)
        singing = [await app.submit(f"sing {n}", plan=plan("sing")) for n in range(5)]
        await model.until_waiting("Do sing.", 5)
        model.let.set()
        for run in (*digging, *singing):
            assert (await asyncio.wait_for(run.result(), 20)).status == "succeeded"
    assert model.peak["Do dig."] == at_once


async def test_an_agent_of_two_capabilities_is_held_to_its_number_over_both() -> None:
    model = Gauge()
    async with team(model, agents=[agent("both", "dig", "sing", at_once=2)]) as app:
        runs = [await app.submit(f"{c} {n}", plan=plan(c)) for n in range(4) for c in ("dig", "sing")]
        async with asyncio.timeout(10), model.seen:
            await model.seen.wait_for(lambda: model.waiting.total() == 2)
        model.let.set()
        for run in runs:
            assert (await asyncio.wait_for(run.result(), 20)).status == "succeeded"
    assert model.peak.total() <= 4
    assert max(model.peak.values()) <= 2


def test_slots_are_promised_taken_and_given_back() -> None:
    one, two = agent("one", "dig", at_once=1, rating=0.9), agent("two", "dig", at_once=2)
    slots = Slots(Roster([one, two]), ["dig"])
    assert slots.open() == {"dig": 3}
    slots.promise("a", "dig")
    slots.promise("b", "dig")
    assert slots.open() == {"dig": 1}
    slots.withdraw("a")
    slots.withdraw("a")
    assert slots.open() == {"dig": 2}
    slots.withdraw("b")
    taken = [slots.take(Wanted(capability="dig")) for _ in range(4)]
    assert [t.agent.name if t else None for t in taken] == ["one", "two", "two", None]
    assert slots.is_any_full
    slots.release("two")
    assert slots.take(Wanted(capability="dig", before="one")) is None, "who had the conversation is waited for"
    assert slots.take(Wanted(capability="dig")) is not None


async def test_a_task_that_killed_twice_waits_until_it_is_alone_and_nothing_begins_beside_it() -> None:
    stores, model = memory_stores(SystemClock()), Gauge()
    agents = [agent("digger", "dig", at_once=9), agent("killer", "kill", at_once=9)]
    async with team(model, agents=agents, stores=stores, scope="all") as app:
        first = await app.submit("dig", plan=plan("dig"))
        await model.until_waiting("Do dig.", 1)
        killer = await barren_twice(app, stores)
        async with asyncio.timeout(10):
            while (killer, "do") not in app._worker.held:  # noqa: ASYNC110 - the sweep finds it within a second
                await asyncio.sleep(0.01)
        second = await app.submit("dig", plan=plan("dig"))
        for _ in range(200):  # everything that may happen without time
            await asyncio.sleep(0)
        assert model.waiting == {"Do dig.": 1}
        model.let.set()
        assert (await asyncio.wait_for(first.result(), 20)).status == "succeeded"
        for run in (killer, second.id):
            assert (await asyncio.wait_for(app.result(run), 20)).status == "succeeded"
    assert model.peak == {"Do dig.": 1, "Do kill.": 1}


async def barren_twice(app: Collegium, stores: Stores) -> str:
    """A run whose only task has lapsed twice without a sign of its own."""
    clock, ids = SystemClock(), Ids(lambda: 1)
    scheduler = Scheduler(stores.journal, memory_stores(clock).bus, clock=clock, ids=ids)
    run = ids.run()
    await scheduler.submit(run, "default", b.RunSubmitted(goal=Goal(text="x", model="scripted:x", plan=plan("kill"))))
    await scheduler.advance(run)
    for attempt in (1, 2):
        started = b.TaskStarted(worker="wrk_gone", agent="killer", agent_version="1", model="m")
        await scheduler.propose(run, said(started, attempt), fence=Fence(task="do", attempt=attempt))
        await scheduler.propose(run, said(b.TaskLapsed(worker="wrk_gone", has_progressed=False), attempt))
    assert (await app.state(run)).tasks["do"].is_alone
    return run


def said(body: b.Body, attempt: int) -> Proposal:
    return lambda _: [Decision(body=body, task="do", attempt=attempt)]
