"""Makes the runs of ``stored/*.sql``: run with the code of a released version, whose store new code has to read.

``python old_runs.py OUT.sql`` writes the dump; the tests use the same tool and script of the model.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import tempfile
from pathlib import Path

from collegium.adapters.clock import SystemClock
from collegium.adapters.memory.bus import MemoryBus
from collegium.adapters.presence import MemoryPresence
from collegium.adapters.sqlite.store import open_store
from collegium.app import Stores
from collegium.domain.chat import ToolCall
from collegium.domain.plan import Plan, Task
from collegium.testing.harness import team
from collegium.testing.scripted import ScriptedModel, Step
from collegium.tools.definition import tool

KEY = b"stored by a released version, for ever"
TOOLS = ("fetch",)
PLAN = Plan(
    tasks=(
        Task(id="one", title="One", capability="operate", instructions="Fetch one.", tools=TOOLS),
        Task(
            id="two",
            title="Two",
            capability="operate",
            instructions="Fetch two.",
            tools=TOOLS,
            depends_on=("one",),
        ),
    )
)
CALLS: list[str] = []


@tool(effect="read", capabilities=["operate"])
async def fetch(what: str) -> str:
    """Fetch something.

    Args:
        what: The thing.
    """
    CALLS.append(what)
    return f"{what} is here"


def script(*, stops: bool = False) -> ScriptedModel:
    """Fetches a thing for each task; with ``stops`` the last reply of the second never comes."""
    return ScriptedModel(
        [
            Step(expect=("Fetch two",), expect_last=("is here",), reply="Two.", delay_s=60 if stops else 0, times=None),
            Step(
                expect=("Fetch two",), tool_calls=(ToolCall(id="b", name="fetch", arguments={"what": "b"}),), times=None
            ),
            Step(expect=("Fetch one",), expect_last=("is here",), reply="One.", times=None),
            Step(
                expect=("Fetch one",), tool_calls=(ToolCall(id="a", name="fetch", arguments={"what": "a"}),), times=None
            ),
        ],
        ordered=False,
    )


async def make(path: Path) -> None:
    """A run that has ended, and one whose process was stopped during its second task."""
    clock = SystemClock()
    store = open_store(path, chain_key=KEY)
    stores = Stores(
        journal=store.journal,
        bus=MemoryBus(clock),
        records=store.records,
        blobs=store.blobs,
        presence=MemoryPresence(),
    )
    for stops in (False, True):
        async with team(script(stops=stops), tools=[fetch], stores=stores) as app:
            run = await app.submit("Fetch both.", plan=PLAN)
            async for event in run.events():
                if stops and event.type == "tool.finished" and event.task == "two":
                    break
    await store.aclose()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "store.db"
        asyncio.run(make(file))
        with sqlite3.connect(file) as connection:
            Path(sys.argv[1]).write_text("\n".join(connection.iterdump()) + "\n", "utf-8")
