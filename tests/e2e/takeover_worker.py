"""A worker process for ``test_takeover.py``: works on every run of the store until SIGTERM.

    python takeover_worker.py DATA MODEL LEASE_S [--alone]

Its tools leave traces in files beside the data folder: what was called, by whom and how often.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

from collegium.config import Settings, WorkerSection
from collegium.tools.context import ToolContext
from collegium.tools.definition import tool
from collegium.wiring import open_collegium, work_alone

LEASE_S = 1.0


def data() -> Path:
    return Path(sys.argv[1])


def leave(name: str, line: str) -> None:
    with (data().parent / name).open("a") as file:
        file.write(f"{line}\n")


async def opened(gate: str) -> None:
    """Until somebody has made the file ``gate`` beside the data folder."""
    while not (data().parent / gate).exists():  # noqa: ASYNC110 - a file is no event
        await asyncio.sleep(0.01)


@tool(effect="write", capabilities=["operate"])
async def pay(amount: int, context: ToolContext) -> str:
    """Pay an amount."""
    leave("paid", f"{context.run} {context.key} {os.getpid()}")
    return f"paid {amount}"


@tool(effect="read", capabilities=["operate"])
async def look(gate: str, context: ToolContext) -> str:
    """Look at a gate until it is open."""
    leave("looking", f"{context.run} {os.getpid()}")
    await opened(gate)
    return "it is open"


@tool(effect="write", capabilities=["operate"])
async def slow_pay(gate: str, context: ToolContext) -> str:
    """Begin to pay; it is paid when the gate is open."""
    leave("paying", f"{context.run} {os.getpid()}")
    await opened(gate)
    leave("paid", f"{context.run} {context.key} {os.getpid()}")
    return "paid"


@tool(effect="read", capabilities=["operate"])
async def die(context: ToolContext) -> str:
    """End the process that calls this."""
    leave("died", f"{context.run} {os.getpid()}")
    os._exit(9)


@tool(effect="read", capabilities=["operate"])
async def freeze(context: ToolContext) -> str:
    """End the process that calls this; where nothing else is in it, stop it instead."""
    leave("frozen", f"{context.run} {os.getpid()}")
    if "--alone" not in sys.argv:
        os._exit(9)
    os.kill(os.getpid(), signal.SIGSTOP)
    return "it went on"


TOOLS = (pay, look, slow_pay, die, freeze)


async def work() -> None:
    settings = Settings(data_dir=data(), worker=WorkerSection(lease_s=float(sys.argv[3]), grace_s=5.0))
    alone = (sys.executable, __file__, *sys.argv[1:4], "--alone")
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    async with open_collegium(settings, tools=TOOLS, scope="all", model=sys.argv[2], alone=alone):
        print("ready", flush=True)
        await stopped.wait()


async def work_on_one(order: bytes) -> None:
    leave("alone", str(os.getpid()))
    await work_alone(order, tools=TOOLS)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(work_on_one(sys.stdin.buffer.read()) if "--alone" in sys.argv else work())
