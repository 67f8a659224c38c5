"""Replays of runs that chance has made: other plans, tools, failures, people and moments each time."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC, datetime
from random import Random

import pytest

from collegium.adapters.memory.index import MemoryIndex
from collegium.adapters.memory.replay import replay
from collegium.adapters.scorers.lexical import LexicalScorer
from collegium.agents.roster import builtin_agents
from collegium.app import Collegium
from collegium.domain.chain import PUBLIC_KEY
from collegium.domain.chat import ModelProfile, ModelReply, ModelRequest, ToolCall
from collegium.domain.errors import ModelAuthError, ModelRateLimited, ModelUnavailable, UsageError
from collegium.domain.plan import Plan, Task
from collegium.domain.usage import Usage
from collegium.oversight.approvals import ApprovalPolicy
from collegium.runtime.export import export, parse
from collegium.testing.clock import FakeClock
from collegium.testing.harness import memory_stores, team
from collegium.testing.scripted import SCRIPTED_PROFILE, ScriptedModel
from collegium.tools.builtin import builtin_tools
from collegium.tools.definition import FunctionTool, tool

pytestmark = pytest.mark.usefixtures("short_waits")


class Moody(ScriptedModel):
    """Replies whatever comes to its mind, after whatever time."""

    def __init__(self, random: Random) -> None:
        super().__init__([])
        self._random = random

    @property
    def profile(self) -> ModelProfile:
        return SCRIPTED_PROFILE

    async def complete(self, request: ModelRequest) -> ModelReply:
        random = self._random
        await asyncio.sleep(random.choice([0, 0, 0.002, 0.01]))
        mood = random.random()
        if mood < 0.08:
            raise random.choice([ModelUnavailable("away"), ModelRateLimited("slow"), ModelAuthError("no")])
        usage = Usage(input_tokens=random.randrange(99), output_tokens=7, model_calls=1)
        if request.tools and mood < 0.6:
            calls = tuple(self._call(n) for n in range(random.randint(1, 3)))
            return ModelReply(tool_calls=calls, finish="tool_calls", usage=usage, model="moody")
        return ModelReply(text=f"It is {random.randrange(1_000)}.", usage=usage, model="moody")

    def _call(self, n: int) -> ToolCall:
        random = self._random
        name = random.choice(["look", "look", "pay", "break_down", "nonsense", "write_file"])
        arguments: dict[str, object] = {"what": random.choice("abc")}
        if name == "write_file":
            arguments = {"path": f"{random.choice('xy')}.txt", "text": str(random.randrange(9))}
        return ToolCall(id=f"c{n}_{random.randrange(10**6)}", name=name, arguments=arguments)


def tools(random: Random, calls: list[str]) -> list[FunctionTool]:
    @tool(effect="read", capabilities=["operate"])
    async def look(what: str) -> str:
        """Look.

        Args:
            what: The thing.
        """
        await asyncio.sleep(random.choice([0, 0.003]))
        calls.append("look")
        return f"{what} is {random.randrange(100)}"

    @tool(effect="write", capabilities=["operate"])
    async def pay(what: str) -> str:
        """Pay.

        Args:
            what: The thing.
        """
        calls.append("pay")
        if random.random() < 0.2:
            raise OSError("the line went dead")
        return f"paid {random.randrange(100)}"

    @tool(effect="pure", capabilities=["operate"])
    async def break_down(what: str) -> str:
        """Break down.

        Args:
            what: The thing.
        """
        calls.append("break_down")
        raise ValueError(f"{what} {random.random()}")

    return [look, pay, break_down]


def plan_of(random: Random) -> Plan:
    names = [f"t{n}" for n in range(random.randint(1, 5))]
    return Plan(
        tasks=tuple(
            Task(
                id=name,
                title=name,
                capability="operate",
                instructions=f"Do {random.choice(['this', 'that'])}.",
                depends_on=tuple(random.sample(names[:n], k=random.randint(0, min(n, 2)))),
                needs=random.choice(["all", "any"]),
            )
            for n, name in enumerate(names)
        )
    )


async def people(app: Collegium, run: str, random: Random) -> None:
    """Answers, adds something or ends it all, until the run is over."""
    for _ in range(60):
        report = await asyncio.wait_for(app.result(run), 30)
        if report.status != "waiting":
            return
        for question in (await app.state(run)).open_approvals:
            words = ["done", "not-done", "retry"] if question.request.kind == "outcome" else ["approve", "reject"]
            await app.answer(question.id, random.choice(words), principal="bo")
            break
        else:
            await app.cancel(run, reason="enough")
    raise AssertionError("the run does not end")


async def say(app: Collegium, run: str, random: Random) -> None:
    """Adds something now and then, while tasks begin, work and end."""
    for text in random.choice([(), ("Also this.",), ("Also this.", "ok", "ok")]):
        for _ in range(random.randrange(30)):
            await asyncio.sleep(random.choice([0, 0, 0.001]))
        with suppress(UsageError):  # it may have ended by then
            await app.inbox.say(run, text, principal="ann", tenant="default")


@pytest.mark.parametrize("seed", range(16))
async def test_a_run_made_by_chance_replays_without_a_difference(seed: int) -> None:
    random, calls = Random(seed), list[str]()
    policy = ApprovalPolicy(tools=("pay",) if random.random() < 0.3 else ())
    own = tools(random, calls)
    async with team(Moody(random), tools=own, stores=memory_stores(FakeClock()), approvals=policy) as app:
        run = await app.submit("By chance.", plan=plan_of(random))
        saying = asyncio.create_task(say(app, run.id, random))
        await people(app, run.id, random)
        await saying
        lines = export(run.id, app.stores, tenant="default", now=datetime(2026, 1, 1, tzinfo=UTC), key=PUBLIC_KEY)
        made = parse([line async for line in lines])
    before = list(calls)
    result = await replay(
        made,
        agents=builtin_agents(),
        tools=(*builtin_tools(), *own) if random.random() < 0.5 else builtin_tools(),
        scorer=LexicalScorer(),
        index=MemoryIndex(),
        embedder=None,
    )
    assert calls == before
    assert result.miss is None, f"seed {seed}: {result.miss}"
    assert result.comparison.differences == (), f"seed {seed}"
    assert result.is_answer_identical, f"seed {seed}"
