"""Tasks that want the same write at the same moment: exactly one makes it, whoever asks hears of the other."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from collegium.adapters.clock import SystemClock
from collegium.adapters.presence import MemoryPresence
from collegium.adapters.sqlite.store import open_store
from collegium.domain.body import ToolFinished
from collegium.domain.chat import ModelProfile, ModelReply, ModelRequest, ToolCall
from collegium.domain.plan import Plan, Task
from collegium.domain.usage import Usage
from collegium.testing.harness import memory_stores, team
from collegium.testing.scripted import SCRIPTED_PROFILE, ScriptedModel
from collegium.tools.definition import FunctionTool, tool

pytestmark = pytest.mark.usefixtures("short_waits")

TWO = Plan(tasks=tuple(Task(id=x, title=x, capability="operate", instructions="Pay.") for x in ("a", "b")))


class Together(ScriptedModel):
    """Proposes the same payment for both tasks, as soon as both have asked."""

    def __init__(self) -> None:
        super().__init__([])
        self._asked = 0
        self._both = asyncio.Event()

    @property
    def profile(self) -> ModelProfile:
        return SCRIPTED_PROFILE

    async def complete(self, request: ModelRequest) -> ModelReply:
        usage = Usage(input_tokens=1, output_tokens=1, model_calls=1)
        if any(m.role == "tool" for m in request.messages):
            return ModelReply(text="That is all.", usage=usage, model="together")
        self._asked += 1
        if self._asked == 2:
            self._both.set()
        await self._both.wait()
        call = ToolCall(id=f"c{self._asked}", name="pay", arguments={"whom": "Ann"})
        return ModelReply(tool_calls=(call,), finish="tool_calls", usage=usage, model="together")


def payments(made: list[str]) -> FunctionTool:
    @tool(effect="write", capabilities=["operate"])
    async def pay(whom: str) -> str:
        """Pay somebody.

        Args:
            whom: Who gets it.
        """
        made.append(whom)
        return "paid"

    return pay


@pytest.mark.parametrize("processes", [1, 2])
async def test_the_same_write_by_two_tasks_at_once_is_made_once(processes: int, tmp_path: Path) -> None:
    for trial in range(12):
        made: list[str] = []
        model, clock = Together(), SystemClock()
        shared = memory_stores(clock)
        async with AsyncExitStack() as stack:
            apps = []
            for _ in range(processes):
                store = open_store(tmp_path / f"{trial}.db", clock=clock)
                stack.push_async_callback(store.aclose)
                stores = replace(shared, journal=store.journal, presence=MemoryPresence())
                one = team(model, tools=[payments(made)], stores=stores, scope="all", concurrency=3 - processes)
                apps.append(await stack.enter_async_context(one))
            run = await apps[0].submit("Pay her.", plan=TWO)
            async with asyncio.timeout(30):
                report = await apps[0].result(run.id)
            assert made == ["Ann"], f"trial {trial}: {report.status}"
            if processes == 1 or report.status == "waiting":  # who is second learns it early enough to ask
                (asked,) = (await apps[0].state(run.id)).open_approvals
                assert "was already called" in asked.request.question
                await apps[0].answer(asked.id, "reject", principal="bo")
                async with asyncio.timeout(30):
                    report = await apps[0].result(run.id)
            assert report.status == "succeeded"
            ended = [e.body async for e in run.events() if isinstance(e.body, ToolFinished)]
            assert sorted(e.result.is_ok for e in ended) == [False, True]
            assert made == ["Ann"]
