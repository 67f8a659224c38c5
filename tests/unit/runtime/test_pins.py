"""Pins: a run ends on the versions it began with, or waits and says what is missing."""

from __future__ import annotations

import asyncio

import msgspec

from collegium.agents.roster import builtin_agents
from collegium.app import Collegium
from collegium.domain import body as b
from collegium.domain.agent import Agent
from collegium.domain.chat import ModelRequest, ToolCall
from collegium.domain.event import Event
from collegium.domain.plan import Plan, Task
from collegium.runtime.check import check_live
from collegium.testing.clock import FakeClock
from collegium.testing.harness import memory_stores, team
from collegium.testing.scripted import ScriptedModel, Step
from collegium.tools.definition import FunctionTool, tool

PLAN = Plan(
    tasks=(
        Task(id="one", title="One", capability="operate", instructions="Do one."),
        Task(id="two", title="Two", capability="operate", instructions="Do two.", depends_on=("one",)),
    )
)


def operator(prompt: str) -> Agent:
    agent = next(a for a in builtin_agents() if a.kind == "operator")
    return msgspec.structs.replace(agent, prompt=prompt)


def look(answer: str, *, named: str = "look") -> FunctionTool:
    if answer == "old":

        @tool(effect="read", capabilities=["operate"], name=named)
        async def old(what: str) -> str:
            """Look something up.

            Args:
                what: The thing.
            """
            return f"{what} is old"

        return old

    @tool(effect="read", capabilities=["operate"], name=named)
    async def new(what: str) -> str:
        """Look something up, in a new way.

        Args:
            what: The thing.
        """
        return f"{what} is new"

    return new


def model() -> ScriptedModel:
    call = ToolCall(id="c", name="look", arguments={"what": "it"})
    return ScriptedModel(
        [Step(expect_last=(" is ",), reply="Done.", times=None), Step(tool_calls=(call,), times=None)], ordered=False
    )


def prompts(requests: list[ModelRequest]) -> set[str]:
    return {r.messages[0].text.split("\n")[0] for r in requests}


async def events_of(app: Collegium, run: str) -> list[Event]:
    return [e async for e in app.events(run)]


async def test_a_run_goes_on_with_the_agents_it_began_with() -> None:
    stores = memory_stores(FakeClock())
    async with team(model(), agents=[operator("Be old.")], tools=[look("old")], stores=stores, scope="none") as app:
        run = await app.submit("Do both.", plan=PLAN)
        before = (await run.state()).pins["agent:operator"]
    asked = model()
    async with team(asked, agents=[operator("Be new.")], tools=[look("old")], stores=stores) as app:
        await app.resume(run.id)
        assert (await asyncio.wait_for(app.result(run.id), 20)).status == "succeeded"
        assert prompts(asked.requests) == {"Be old."}
        started = {e.body.agent_version for e in await events_of(app, run.id) if isinstance(e.body, b.TaskStarted)}
        assert started == {before}
        asked.requests.clear()
        fresh = await app.submit("Do both.", plan=PLAN)
        assert (await asyncio.wait_for(fresh.result(), 20)).status == "succeeded"
        assert prompts(asked.requests) == {"Be new."}


async def test_an_agent_that_is_gone_still_ends_its_runs() -> None:
    stores = memory_stores(FakeClock())
    own = Agent(name="diver", kind="operator", description="d", capabilities=("dive",), prompt="Dive.", tools=("look",))
    plan = Plan(tasks=(Task(id="one", title="One", capability="dive", instructions="Dive for one."),))
    async with team(model(), agents=[own], tools=[look("old")], stores=stores, scope="none") as app:
        run = await app.submit("Dive.", plan=plan)
    async with team(model(), tools=[look("old")], stores=stores) as app:
        await app.resume(run.id)
        assert (await asyncio.wait_for(app.result(run.id), 20)).status == "succeeded"


async def test_whose_program_has_the_tools_is_told_what_to_run() -> None:
    stores = memory_stores(FakeClock())
    async with team(model(), tools=[look("old")], stores=stores, scope="none") as app:
        run = await app.submit("Do both.", plan=PLAN)
    async with team(model(), stores=stores) as app:
        await app.resume(run.id)
        assert (await asyncio.wait_for(app.result(run.id), 20)).status == "waiting"
        parked = [e.body for e in await events_of(app, run.id) if isinstance(e.body, b.TaskParked)]
        assert [p.reason for p in parked] == ["pinned"]
        assert f"open_collegium(tools=[...])`, `await app.resume('{run.id}')` goes on" in parked[0].detail
        assert f"`collegium runs fork {run.id} --at SEQ`" in parked[0].detail
    async with team(model(), tools=[look("old")], stores=stores) as app:
        await app.resume(run.id)
        assert (await asyncio.wait_for(app.result(run.id), 20)).status == "succeeded"


async def test_a_tool_of_another_version_parks_the_task_until_it_is_restored() -> None:
    stores = memory_stores(FakeClock())
    async with team(model(), tools=[look("old")], stores=stores, scope="none") as app:
        run = await app.submit("Do both.", plan=PLAN)
        old = (await run.state()).pins["tool:look"]
    async with team(model(), tools=[look("new")], stores=stores) as app:
        await app.resume(run.id)
        assert (await asyncio.wait_for(app.result(run.id), 20)).status == "waiting"
        parked = [e.body for e in await events_of(app, run.id) if isinstance(e.body, b.TaskParked)]
        new = app.pins.present["tool:look"]
        assert [p.reason for p in parked] == ["pinned"]
        assert all(text in parked[0].detail for text in (old, new, "'look'", f"runs resume {run.id}", "runs fork"))
        seen, found = await check_live(stores.journal, app.scheduler, app.pins, tenant="default")
        assert seen == 1
        assert found[0].breaks == parked[0].detail
        assert [(d.what, d.pinned, d.present, d.outcome) for d in found[0].differences] == [
            ("tool:look", old, new, "gone")
        ]
        # Going on with what there is: a fork.
        fork = await app.fork(run.id, at=parked_seq(await events_of(app, run.id)))
        assert (await asyncio.wait_for(fork.result(), 20)).status == "succeeded"
    async with team(model(), tools=[look("old")], stores=stores) as app:
        assert await check_live(stores.journal, app.scheduler, app.pins, tenant="default") == (1, ())
        await app.resume(run.id)
        assert (await asyncio.wait_for(app.result(run.id), 20)).status == "succeeded"
        results = [e.body.result.text for e in await events_of(app, run.id) if isinstance(e.body, b.ToolFinished)]
        assert results == ["it is old", "it is old"]


def parked_seq(events: list[Event]) -> int:
    return next(e.seq for e in events if e.type == "task.parked")


async def test_tools_that_came_later_are_not_for_runs_that_came_before() -> None:
    stores = memory_stores(FakeClock())
    async with team(model(), tools=[look("old")], stores=stores, scope="none") as app:
        run = await app.submit("Do both.", plan=PLAN)
    asked = model()
    async with team(asked, tools=[look("old"), look("new", named="peek")], stores=stores) as app:
        await app.resume(run.id)
        assert (await asyncio.wait_for(app.result(run.id), 20)).status == "succeeded"
        offered = {t.name for r in asked.requests for t in r.tools}
        assert "look" in offered
        assert "peek" not in offered


async def test_changed_agents_are_listed_and_break_nothing() -> None:
    stores = memory_stores(FakeClock())
    async with team(model(), agents=[operator("Be old.")], tools=[look("old")], stores=stores, scope="none") as app:
        await app.submit("Do both.", plan=PLAN)
    async with team(model(), agents=[operator("Be new.")], tools=[look("old")], stores=stores, scope="none") as app:
        _, (found,) = await check_live(stores.journal, app.scheduler, app.pins, tenant="default")
        assert found.breaks is None
        assert [(d.what, d.outcome) for d in found.differences] == [("agent:operator", "kept")]
