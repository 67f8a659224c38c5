"""A process for ``test_approvals.py``, with a tool that asks and leaves a line in a file outside.

    python approval_worker.py DATA MODEL submit|resume RUN

Prints the run's id and status once it has ended or waits for a person.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from collegium.config import Settings
from collegium.domain.plan import Plan, Task
from collegium.tools.context import ToolContext
from collegium.tools.definition import tool
from collegium.wiring import open_collegium

PLAN = Plan(tasks=(Task(id="do", title="Pay", capability="operate", instructions="Pay."),))


def outside() -> Path:
    return Path(sys.argv[1]).parent / "paid"


def leave(context: ToolContext) -> int:
    """Leaves a line outside; returns how many there are."""
    with outside().open("a") as file:
        file.write(f"{context.key} {os.getpid()}\n")
    return len(outside().read_text().splitlines())


@tool(effect="write", asks=True)
async def pay(amount: int, context: ToolContext) -> str:
    """Pay an amount."""
    leave(context)
    return f"paid {amount}"


@tool(effect="write")
async def break_off(amount: int, context: ToolContext) -> str:
    """Pay an amount over a line that goes dead the first time."""
    if leave(context) == 1:
        raise ConnectionResetError("the line went dead")
    return f"paid {amount}"


async def main(data: str, model: str, verb: str, run: str = "") -> None:
    settings = Settings(data_dir=Path(data))
    async with open_collegium(settings, model=model, tools=[pay, break_off]) as app:
        handle = await app.submit("Pay.", plan=PLAN) if verb == "submit" else await app.resume(run)
        report = await handle.result()
        print(handle.id, report.status, flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
