"""At a soft share of any limit agents are told to wrap up; at the cap the run ends with what it has."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import msgspec
import pytest

from collegium.adapters.clock import SystemClock
from collegium.agents.roster import builtin_agents
from collegium.domain.agent import Agent
from collegium.domain.chat import ModelReply, ModelRequest, ToolCall
from collegium.domain.plan import Plan
from collegium.domain.usage import Limits, Price, Usage
from collegium.testing.clock import FakeClock
from collegium.testing.harness import memory_stores, team
from collegium.testing.scripted import SCRIPTED_PROFILE, ScriptedModel, Step
from collegium.tools.definition import tool
from tests.unit.runtime.greedy import GreedyModel, fan, look

LOOK = ToolCall(id="", name="look", arguments={})
WRAP_UP = "Answer now with what you have"
ONE = fan(1)


def looks(count: int, *, text: str = "", usage: Usage | None = None) -> Step:
    return Step(reply=text, tool_calls=(LOOK,), times=count, usage=usage)


def is_told(request: ModelRequest) -> bool:
    return any(WRAP_UP in m.text for m in request.messages)


async def test_at_eighty_per_cent_of_the_tool_calls_the_agent_answers_with_what_it_has() -> None:
    model = ScriptedModel([looks(4), Step(when=is_told, reply="It is nothing.")])
    async with model, team(model, tools=[look]) as app:
        report = await (await app.submit("x", plan=ONE, limits=Limits(tool_calls=5))).result()
    assert report.status == "succeeded"


async def test_calls_beyond_the_cap_are_refused_and_the_run_ends_limited_with_its_answer() -> None:
    three = Step(tool_calls=(LOOK, LOOK, LOOK))
    refused = "look was not called, the task's 2 calls of tools are made"
    model = ScriptedModel([three, Step(expect=(refused,), when=is_told, reply="Two looks gave nothing.")])
    async with model, team(model, tools=[look]) as app:
        run = await app.submit("x", plan=ONE, limits=Limits(tool_calls=2))
        report = await run.result()
        finished = [e async for e in app.events(run.id) if e.type == "tool.finished"]
    assert sorted(e.body.result.is_ok for e in finished) == [False, True, True]  # type: ignore[attr-defined]
    assert report.status == "limited"
    assert report.answer is not None
    assert "Two looks gave nothing." in report.answer.text
    assert "raise --limit-tool-calls" in report.reason


async def test_at_the_cap_the_run_ends_with_what_was_written() -> None:
    words = "So far: nothing in the first drawer." + " It was empty." * 100
    model = ScriptedModel([looks(1, text=words, usage=Usage(input_tokens=1_500, output_tokens=50))])
    lean = declared(tools=("look",), prompt="Work.")
    async with model, team(model, tools=[look], agents=[lean]) as app:
        report = await (await app.submit("x", plan=ONE, limits=Limits(input_tokens=2_000))).result()
    assert report.status == "limited"
    assert report.answer is not None
    assert "So far: nothing in the first drawer." in report.answer.text
    assert "input tokens" in report.reason
    assert report.usage.input_tokens == 1_500


@pytest.mark.parametrize("cap", ["input_tokens", "output_tokens", "tokens", "tool_calls"])
async def test_whatever_is_capped_a_greedy_model_gets_no_more(cap: str) -> None:
    limit = 9 if cap == "tool_calls" else 60_000
    model = GreedyModel(50)
    async with team(model, tools=[look]) as app:
        run = await app.submit("x", plan=fan(4), limits=msgspec.structs.replace(Limits(), **{cap: limit}))
        report = await run.result()
        spent = getattr((await run.state()).usage, cap)
    assert 0 < spent <= limit
    if cap != "tool_calls":
        assert getattr(model.billed, cap) == spent
    assert report.status in ("limited", "succeeded")


async def test_most_of_the_time_gone_the_agent_is_told_to_wrap_up() -> None:
    clock = FakeClock()

    @tool(effect="read", name="look", capabilities=["operate"])
    async def slow() -> str:
        """Look for nine seconds."""
        await clock.sleep(9)
        return "nothing"

    model = ScriptedModel([looks(1), Step(when=is_told, reply="Nothing yet.")])
    stores = memory_stores(clock)
    async with model, team(model, tools=[slow], stores=stores, clock=clock) as app:
        run = await app.submit("x", plan=ONE, limits=Limits(deadline_s=10))
        for _ in range(19):
            await clock.advance(0.5)
        async with asyncio.timeout(5):
            assert (await run.result()).status == "succeeded"


def declared(**changes: object) -> Agent:
    operator = next(a for a in builtin_agents() if a.name == "operator")
    return msgspec.structs.replace(operator, **changes)


async def test_an_agents_own_limits_hold_where_they_are_smaller() -> None:
    stores = memory_stores(SystemClock())
    async with team(GreedyModel(9), tools=[look], agents=[declared(limit_tokens=9_000)], stores=stores) as app:
        run = await app.submit("x", plan=ONE, limits=Limits(tokens=500_000))
        report = await run.result()
        assert (await run.state()).usage.tokens <= 9_000
    assert report.status in ("limited", "succeeded")
    priced = msgspec.structs.replace(SCRIPTED_PROFILE, price=Price(input_usd=Decimal(3), output_usd=Decimal(15)))
    async with team(GreedyModel(9, profile=priced), tools=[look], agents=[declared(limit_usd=Decimal("0.001"))]) as app:
        report = await (await app.submit("x", plan=ONE)).result()
    assert report.status == "limited"
    assert "raise the limit of agent 'operator'" in report.reason


async def test_an_agent_that_takes_too_long_is_ended() -> None:
    model = ScriptedModel([Step(delay_s=30, reply="late", times=None)])
    async with team(model, agents=[declared(timeout_s=0.05)]) as app:
        plan = Plan(tasks=(msgspec.structs.replace(ONE.tasks[0], max_attempts=1),))
        report = await asyncio.wait_for((await app.submit("x", plan=plan)).result(), 10)
    assert report.status == "failed"
    assert report.error == "timeout"


async def test_no_more_tasks_at_once_than_the_fan_out_allows() -> None:
    at_once: list[int] = []
    running = 0

    class Counting(GreedyModel):
        async def complete(self, request: ModelRequest) -> ModelReply:
            nonlocal running
            running += 1
            at_once.append(running)
            try:
                await asyncio.sleep(0.005)
                return await super().complete(request)
            finally:
                running -= 1

    async with team(Counting(1), tools=[look]) as app:
        run = await app.submit("x", plan=fan(9), limits=Limits(parallel=3))
        assert (await run.result()).status == "succeeded"
    assert max(at_once) == 3
