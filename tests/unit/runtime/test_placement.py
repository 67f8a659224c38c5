"""Agents and tasks in running teams: drains, quarantine, shares over processes, near capabilities, local models."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import msgspec
import pytest

from collegium.adapters.clock import SystemClock
from collegium.adapters.memory.directory import MemoryDirectory
from collegium.adapters.memory.index import MemoryIndex
from collegium.adapters.memory.quota import MemoryQuota
from collegium.adapters.memory.replay import replay
from collegium.adapters.scorers.lexical import LexicalScorer
from collegium.agents.roster import builtin_agents
from collegium.app import Collegium, Stores
from collegium.domain import body as b
from collegium.domain.agent import Agent
from collegium.domain.chain import PUBLIC_KEY
from collegium.domain.errors import InvalidPlan, ModelAuthError
from collegium.domain.plan import Plan, Task
from collegium.domain.worker import WorkerCard
from collegium.ports import Model
from collegium.runtime.export import export, parse
from collegium.runtime.lifecycle import COOL_DOWN_S
from collegium.runtime.shares import Caps, Shares
from collegium.testing.clock import FakeClock
from collegium.testing.harness import memory_stores, team
from collegium.testing.scripted import ScriptedModel, Step
from tests.unit.runtime.test_slots import Gauge, agent, plan

WELL = Step(reply="Done.", times=None)


def broken(name: str = "bob") -> Agent:
    return replace_model(agent(name, "dig", at_once=8, rating=0.9), "scripted:broken")


def replace_model(one: Agent, model: str) -> Agent:
    return msgspec.structs.replace(one, model=model)


def shared(clock: SystemClock | FakeClock) -> Stores:
    return replace(memory_stores(clock), quota=MemoryQuota(clock), directory=MemoryDirectory(clock))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - what is waited for is told by nobody
            await asyncio.sleep(0.01)


async def done(app: Collegium, run: str) -> str:
    return (await asyncio.wait_for(app.result(run), 20)).status


async def routed(app: Collegium, run: str) -> list[b.TaskRouted]:
    return [e.body async for e in app.events(run) if isinstance(e.body, b.TaskRouted)]


async def test_an_agent_that_drains_ends_what_it_has_and_gets_nothing_new_in_any_process() -> None:
    model, stores = Gauge(), memory_stores(SystemClock())
    agents = [agent("ann", "dig", at_once=9, rating=0.9), agent("bob", "dig", at_once=9)]
    async with (
        team(model, agents=agents, stores=stores, scope="all") as app,
        team(model, agents=agents, stores=stores, scope="all") as other,
        team(model, agents=agents, stores=stores, scope="none") as person,
    ):
        first = await person.submit("dig 0", plan=plan("dig"))
        await model.until_waiting("Do dig.", 1)
        await person.placement.lifecycle.drain("ann", principal="eve")
        for process in (app, other):
            await until(lambda p=process: p.placement.lifecycle.takes("ann") == 0)  # type: ignore[misc]
        later = [await person.submit(f"dig {n}", plan=plan("dig")) for n in range(1, 5)]
        await model.until_waiting("Do dig.", 5)
        model.let.set()
        for run in (first, *later):
            assert await done(person, run.id) == "succeeded"
        assert (await routed(person, first.id))[0].agent == "ann"
        for run in later:
            said = (await routed(person, run.id))[0]
            assert said.agent == "bob"
            assert "ann (draining)" in said.reason
            assert [(c.agent, c.held) for c in said.candidates] == [("bob", ""), ("ann", "draining")]


async def test_tasks_of_an_agent_that_drains_alone_wait_until_it_is_resumed() -> None:
    async with team(ScriptedModel([WELL], ordered=False), agents=[agent("ann", "dig", at_once=9)]) as app:
        await app.placement.lifecycle.drain("ann")
        run = await app.submit("dig", plan=plan("dig"))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(app.result(run.id), 0.3)
        assert (await app.state(run.id)).tasks["do"].status == "ready"
        await app.placement.lifecycle.resume("ann")
        assert await done(app, run.id) == "succeeded"


async def test_an_agent_whose_own_model_fails_is_quarantined_and_tried_again() -> None:
    clock = FakeClock()
    well, bad = (
        ScriptedModel([WELL], ordered=False),
        ScriptedModel([*[Step(error=ModelAuthError("no"))] * 5, WELL], ordered=False),
    )
    models: dict[str, Model] = {"scripted:given": well, "scripted:broken": bad}
    async with team(models, agents=[agent("ann", "dig", at_once=8, rating=0.1), broken()], clock=clock) as app:

        async def dig() -> list[b.TaskRouted]:
            run = await app.submit("dig", plan=plan("dig"))
            async with asyncio.timeout(20):
                while (await app.state(run.id)).finished is None:
                    await clock.advance(0.05)
            assert (await app.state(run.id)).status == "succeeded"
            return await routed(app, run.id)

        while app.placement.health.complaint("bob") is None:
            assert (await dig())[-1].agent == "ann", "whoever fails for good is followed by another one"
        await clock.advance(2.0)
        assert app.placement.lifecycle.condition("bob") == "quarantined"
        found = await dig()
        assert [r.agent for r in found] == ["ann"]
        assert "bob (quarantined)" in found[0].reason
        await clock.advance(COOL_DOWN_S)
        tried = await dig()
        assert tried[0].agent == "bob"
        assert "tried again" in tried[0].reason
        await clock.advance(2.0)
        standing = app.placement.lifecycle.standing("bob")
        assert standing is not None
        assert standing.condition == "active", standing.changes


async def test_a_tenant_has_so_many_tasks_at_once_over_all_workers() -> None:
    model, stores = Gauge(), shared(SystemClock())
    agents, caps = [agent("ann", "dig", "sing", at_once=50)], Caps(tenants={"acme": 3})
    async with (
        team(model, agents=agents, stores=stores, scope="all", shares=caps) as app,
        team(model, agents=agents, stores=stores, scope="all", shares=caps) as other,
    ):
        mine = [await app.submit(f"dig {n}", plan=plan("dig"), tenant="acme") for n in range(8)]
        theirs = [await other.submit(f"sing {n}", plan=plan("sing"), tenant="other") for n in range(8)]
        await model.until_waiting("Do sing.", 8)
        await model.until_waiting("Do dig.", 3)
        assert model.peak["Do dig."] == 3
        model.let.set()
        for run in mine:
            assert (await asyncio.wait_for(app.result(run.id, tenant="acme"), 20)).status == "succeeded"
        for run in theirs:
            assert (await asyncio.wait_for(app.result(run.id, tenant="other"), 20)).status == "succeeded"
    assert model.peak["Do dig."] == 3


async def test_an_agent_has_so_many_tasks_at_once_over_all_workers_and_others_take_the_rest() -> None:
    model, stores = Gauge(), shared(SystemClock())
    scarce = msgspec.structs.replace(agent("ann", "dig", at_once=50, rating=1.0), max_concurrent_fleet=2)
    agents = [scarce, agent("bob", "dig", at_once=50, rating=0.0)]
    async with (
        team(model, agents=agents, stores=stores, scope="all") as app,
        team(model, agents=agents, stores=stores, scope="all"),
    ):
        runs = [await app.submit(f"dig {n}", plan=plan("dig")) for n in range(6)]
        await model.until_waiting("Do dig.", 6)
        model.let.set()
        for run in runs:
            assert await done(app, run.id) == "succeeded"
        who = [(await routed(app, run.id))[0] for run in runs]
    assert sorted(r.agent for r in who) == ["ann"] * 2 + ["bob"] * 4
    assert any("ann (all its places in the fleet are taken)" in r.reason for r in who)


async def test_places_of_the_dead_are_free_again_and_those_of_the_living_are_kept() -> None:
    clock = FakeClock()
    quota = MemoryQuota(clock)
    one, other = (Shares(quota, Caps(tenant_tasks=1), clock=clock) for _ in range(2))
    wanted = one.wanted("acme", agent("ann", "dig", at_once=1))
    assert await one.take("run/a/1", wanted) is None
    for _ in range(30):
        await clock.advance(1.0)
        await one.renew()
    assert await other.take("run/b/1", wanted) == "tenant:acme"
    await clock.advance(20.0)
    assert await other.take("run/b/1", wanted) is None
    assert [round(one.later_s("tenant:acme"), 3) for _ in range(3)] == [0.1, 0.11, 0.12], "one after the other"


async def test_a_capability_that_nobody_declares_goes_to_who_is_near() -> None:
    async with team(ScriptedModel([WELL], ordered=False), agents=[agent("ann", "dig", at_once=9)]) as app:
        run = await app.submit("dig", plan=plan("dig-deeper"))
        assert await done(app, run.id) == "succeeded"
        said = (await routed(app, run.id))[0]
        assert said.agent == "ann"
        assert said.reason.startswith("nobody declares 'dig-deeper', ann is the nearest (0.50)")
        with pytest.raises(InvalidPlan, match="cook"):
            await app.submit("dinner", plan=plan("cook"))


async def test_a_task_is_left_for_a_moment_to_the_worker_that_has_its_local_model() -> None:
    clock = SystemClock()
    stores = shared(clock)
    local = replace_model(agent("ann", "dig", at_once=9), "local:big")
    assert stores.directory is not None
    card = WorkerCard(
        worker="wrk_other",
        host="far",
        pid=1,
        version="1",
        started_at=clock.now(),
        at=clock.now(),
        capabilities=("dig",),
        models=("local:big",),
        concurrency=4,
    )
    await stores.directory.post(card, ttl_s=60.0)
    async with team(ScriptedModel([WELL], ordered=False), agents=[local], stores=stores, scope="all") as app:
        await until(lambda: app.placement.outlook.is_elsewhere("local:big", "dig"))
        began_s = clock.monotonic()
        run = await app.submit("dig", plan=plan("dig"))
        assert await done(app, run.id) == "succeeded"
        assert clock.monotonic() - began_s >= 0.15, "nobody else took it, so this worker did, but not at once"
        assert (await app.state(run.id)).tasks["do"].attempt == 1


async def test_a_replay_asks_nobody_how_agents_do() -> None:
    agents = [agent("ann", "dig", at_once=9, rating=0.6), agent("bob", "dig", at_once=9, rating=0.5)]
    tasks = tuple(Task(id=f"t{n}", title="Dig", capability="dig", instructions="Do dig.") for n in range(4))
    async with team(ScriptedModel([WELL], ordered=False), agents=agents) as app:
        for n in range(9):
            app.placement.health.ended("ann", run=f"r{n}", seconds=1.0, why="internal")
        run = await app.submit("dig", plan=Plan(tasks=tasks))
        assert await done(app, run.id) == "succeeded"
        assert {r.agent for r in await routed(app, run.id)} == {"bob"}, "and the rating says ann"
        lines = export(run.id, app.stores, tenant="default", now=datetime(2026, 1, 1, tzinfo=UTC), key=PUBLIC_KEY)
        made = parse([line async for line in lines])
    result = await replay(
        made, agents=(*builtin_agents(), *agents), tools=(), scorer=LexicalScorer(), index=MemoryIndex(), embedder=None
    )
    assert (result.is_same, result.comparison.differences) == (True, ())
