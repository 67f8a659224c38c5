"""The processes of ``dispatch.py``: a worker, a submitter, both in one, and one that has nothing to do.

    python benchmarks/_dispatch_child.py ROLE FOLDER RUNS EVERY_S LEASE_S

Prints ``ready``, ends when its standard input ends, and then prints one JSON document.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from collegium.adapters.memory.bus import MemoryBus
from collegium.adapters.sqlite.bus import SqliteBus
from collegium.app import Scope
from collegium.config import Settings, WorkerSection
from collegium.domain.message import Message
from collegium.domain.plan import Plan, Task
from collegium.runtime.attempt import Attempt
from collegium.wiring import open_collegium

PLAN = Plan(tasks=(Task(id="do", title="Do it", capability="operate", instructions="Say that it is done."),))
SCOPES: dict[str, Scope] = {"alone": "own", "worker": "all", "submitter": "none", "idle": "all"}
WARM_RUNS = 10
Publish = Callable[[Any, Message], Awaitable[bool]]


def main() -> None:
    role, folder = sys.argv[1], Path(sys.argv[2])
    runs, every_s, lease_s = int(sys.argv[3]), float(sys.argv[4]), float(sys.argv[5])
    published, started = watch()
    busy = asyncio.run(serve(role, folder, runs=runs, every_s=every_s, lease_s=lease_s))
    print(json.dumps({"published": published, "started": started, "cpu_share": busy}))


def watch() -> tuple[dict[str, float], dict[str, float]]:
    """Notes when each run's task is handed to the bus, and when it has been started durably, by the machine's clock."""
    published: dict[str, float] = {}
    started: dict[str, float] = {}
    start = Attempt.start
    for bus in (MemoryBus, SqliteBus):
        _note_publish(bus, published)

    async def noted_start(attempt: Attempt, *arguments: Any, **options: Any) -> Any:
        state = await start(attempt, *arguments, **options)
        if state is not None:
            started[attempt.run] = time.monotonic()
        return state

    Attempt.start = noted_start  # type: ignore[method-assign]
    return published, started


def _note_publish(bus: Any, published: dict[str, float]) -> None:
    publish: Publish = bus.publish

    async def noted_publish(self: Any, message: Message) -> bool:
        if "run" in message.body:  # a task, no hint
            published.setdefault(str(message.body["run"]), time.monotonic())
        return await publish(self, message)

    bus.publish = noted_publish


async def serve(role: str, folder: Path, *, runs: int, every_s: float, lease_s: float) -> float:
    """Plays the role until standard input ends; returns the share of a core that it took."""
    settings = Settings(data_dir=folder / "data", worker=WorkerSection(lease_s=lease_s))
    model = f"scripted:{folder / 'script.json'}"
    async with open_collegium(settings, scope=SCOPES[role], model=model) as app:
        print("ready", flush=True)
        if role == "idle":
            await asyncio.sleep(2)
        cpu_s, wall_s = time.process_time(), time.monotonic()
        if role in ("alone", "submitter"):
            for number in range(WARM_RUNS + runs):
                begun_s = time.monotonic()
                run = await app.submit(f"goal {number}", plan=PLAN)
                if number < WARM_RUNS:
                    await run.result()
                await asyncio.sleep(max(0.0, begun_s + every_s - time.monotonic()))
            await run.result()
        elif role == "idle":
            await asyncio.sleep(10)
        else:
            await asyncio.to_thread(sys.stdin.read)
        return (time.process_time() - cpu_s) / (time.monotonic() - wall_s)


if __name__ == "__main__":
    main()
