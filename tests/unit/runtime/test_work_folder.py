"""A run's files follow it: to another host, and from version to version."""

from __future__ import annotations

import asyncio
import hashlib

from collegium.adapters.clock import SystemClock
from collegium.adapters.memory.blobs import MemoryBlobs
from collegium.adapters.memory.workspace import MemoryWorkspaces
from collegium.domain import body as b
from collegium.domain.chat import ToolCall
from collegium.domain.plan import Plan, Task
from collegium.runtime.work_folder import KeptWorkspace
from collegium.testing.harness import memory_stores, team
from collegium.testing.scripted import ScriptedModel, Step
from collegium.tools.definition import tool

PLAN = Plan(tasks=(Task(id="one", title="One", capability="operate", instructions="Do it."),))


def call(name: str, **arguments: object) -> Step:
    return Step(tool_calls=(ToolCall(id=name, name=name, arguments=arguments),))


async def test_a_task_that_goes_on_elsewhere_finds_its_files() -> None:
    """Each process has a work folder of its own, as on two hosts."""
    stores, reached, is_first = memory_stores(SystemClock()), asyncio.Event(), True

    @tool(effect="read", capabilities=["operate"])
    async def rest() -> str:
        """Wait."""
        reached.set()
        if is_first:
            await asyncio.Event().wait()
        return "rested"

    model = ScriptedModel(
        [
            call("write_file", path="notes/a.txt", text="first"),
            call("write_file", path="notes/a.txt", text="second"),
            call("rest"),
            call("read_file", path="notes/a.txt"),
            call("list_files"),
            Step(reply="Done."),
        ]
    )
    async with team(model, stores=stores, tools=[rest]) as app:
        run = (await app.submit("goal", plan=PLAN, tools=["rest"])).id
        await reached.wait()
    is_first = False
    async with team(model, stores=stores, tools=[rest]) as other:
        await (await other.resume(run)).result()
        ends = [e.body for e in [e async for e in other.events(run)] if isinstance(e.body, b.ToolFinished)]
    texts = {e.tool: e.result.text for e in ends}
    assert "second" in texts["read_file"]
    assert "notes/a.txt" in texts["list_files"]


async def test_what_is_older_is_replaced_and_what_is_newer_stays() -> None:
    blobs, folders = MemoryBlobs(SystemClock()), MemoryWorkspaces()
    kept = KeptWorkspace(folders, blobs, tenant="acme", run="run_1")
    elsewhere = [blobs.put("acme", data) for data in (b"one", b"two", b"three")]
    await kept.write("a", b"one")
    await kept.catch_up({"a": (sha256(b"one"), elsewhere[1])})
    assert await kept.read("a") == b"two"
    folder = await folders.open("acme", "run_1")
    await folder.write("a", b"being written here by a parallel task")
    await kept.catch_up({"a": tuple(elsewhere)})
    assert await kept.read("a") == b"being written here by a parallel task"
    await kept.catch_up({"b": (elsewhere[0],)})
    assert await kept.list() == ("a", "b")


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
