"""Tasks whose workers keep dying are alone the third time, and then only the end of their process counts."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from math import inf
from pathlib import Path

from collegium.adapters.presence import FilePresence, MemoryPresence
from collegium.app import Collegium
from collegium.domain import body as b
from collegium.domain.event import Draft
from collegium.domain.head import Fence, HeadChange
from collegium.domain.ids import Ids
from collegium.domain.task import TaskState
from collegium.ports import Presence
from collegium.runtime.recovery import GIVEN_UP_LEASES, STUCK_LEASES
from collegium.testing.clock import FakeClock
from collegium.testing.harness import memory_stores, team
from collegium.testing.scripted import ScriptedModel
from tests.unit.runtime.plans import ONE

LEASE_S = 1.0
CHILD = """
import asyncio, sys
from pathlib import Path
from collegium.adapters.presence import FilePresence

async def live():
    presence = FilePresence(Path(sys.argv[1]), lease_s=1000)  # it beats every 250 s: it stands still
    await presence.announce("wrk_lone")
    print("announced", flush=True)
    await asyncio.sleep(600)

asyncio.run(live())
"""


class Silent(MemoryPresence):
    """Takes one worker for dead, which has been silent for ``leases``."""

    leases: float | None = inf
    worker = "wrk_lone"

    async def dead(self) -> tuple[str, ...]:
        return (self.worker,)

    def silence(self, worker: str) -> float | None:
        return self.leases


async def start(app: Collegium, run: str, clock: FakeClock, attempt: int, *, task: str = "do") -> None:
    """The attempt is started by a lone process."""
    ids = Ids(lambda: 1, lambda size: bytes([attempt] * size))
    started = b.TaskStarted(worker="wrk_lone", agent="operator", agent_version="1", model="scripted")
    draft = Draft(id=ids.new("evt"), tenant="default", at=clock.now(), body=started, task=task, attempt=attempt)
    await app.stores.journal.append(
        run,
        [draft],
        expected=(await app.state(run)).deciding_seq,
        fence=Fence(task=task, attempt=attempt),
        head=HeadChange(status="running", wake_at=None),
    ).durable()


async def third(app: Collegium, clock: FakeClock, presence: Silent) -> str:
    """A run whose task has killed two workers, and whose third attempt is under way in a process of its own."""
    run = (await app.submit("x", plan=ONE)).id
    presence.leases = inf
    for attempt in (1, 2, 3):
        await app.resume(run)
        assert (await app.state(run)).tasks["do"].is_alone == (attempt == 3)
        await start(app, run, clock, attempt)
    return run


async def looked_after(app: Collegium, run: str) -> TaskState:
    await app.resume(run)
    return (await app.state(run)).tasks["do"]


async def test_a_lone_process_that_only_stands_still_is_waited_for_and_its_end_counts() -> None:
    clock, presence = FakeClock(), Silent()
    stores = replace(memory_stores(clock), presence=presence)
    async with team(ScriptedModel([]), stores=stores, clock=clock, scope="none") as app:
        run = await third(app, clock, presence)
        for leases in (1.0, 2.0, GIVEN_UP_LEASES - 0.5):
            presence.leases = leases
            task = await looked_after(app, run)
            assert (task.status, task.attempt, task.barren_lapses) == ("running", 3, 2)
        presence.leases = inf
        assert (await looked_after(app, run)).status == "quarantined"


async def test_one_that_nobody_ends_does_not_hold_its_run_for_ever() -> None:
    clock, presence = FakeClock(), Silent()
    stores = replace(memory_stores(clock), presence=presence)
    async with team(ScriptedModel([]), stores=stores, clock=clock, scope="none") as app:
        run = await third(app, clock, presence)
        presence.leases = GIVEN_UP_LEASES
        assert (await looked_after(app, run)).status == "quarantined"


async def test_a_cancelled_run_does_not_wait_for_it() -> None:
    clock, presence = FakeClock(), Silent()
    stores = replace(memory_stores(clock), presence=presence)
    async with team(ScriptedModel([]), stores=stores, clock=clock, scope="none") as app:
        run = await third(app, clock, presence)
        presence.leases = 1.0
        await app.cancel(run, principal="ada")
        assert (await app.state(run)).status == "cancelled"


async def test_another_attempt_lapses_as_soon_as_its_worker_is_silent() -> None:
    clock, presence = FakeClock(), Silent()
    stores = replace(memory_stores(clock), presence=presence)
    async with team(ScriptedModel([]), stores=stores, clock=clock, scope="none") as app:
        run = (await app.submit("x", plan=ONE)).id
        presence.leases = inf
        await app.resume(run)
        await start(app, run, clock, 1)
        presence.leases = 1.0
        assert (await looked_after(app, run)).attempt == 2


@contextmanager
def lone_process(folder: Path) -> Iterator[subprocess.Popen[str]]:
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(folder)], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "announced\n"
        yield child
    finally:
        child.kill()
        child.communicate()


async def silent_for(presence: Presence, clock: FakeClock, leases: float) -> None:
    for _ in range(int(2 * leases) + 1):
        await presence.dead()
        await clock.advance(LEASE_S / 2)


async def test_a_real_process_that_lives_and_does_not_beat_is_no_dead_one(tmp_path: Path) -> None:
    clock = FakeClock()
    seen = FilePresence(tmp_path / "workers", clock=clock, lease_s=LEASE_S)
    presence = Silent()
    stores = replace(memory_stores(clock), presence=presence)
    async with team(ScriptedModel([]), stores=stores, clock=clock, scope="none") as app:
        run = await third(app, clock, presence)
        with lone_process(tmp_path / "workers") as child:
            await silent_for(seen, clock, 3)
            assert await seen.dead() == ("wrk_lone",)
            presence.leases = seen.silence("wrk_lone")
            assert presence.leases is not None
            assert 1 < presence.leases < STUCK_LEASES
            assert (await looked_after(app, run)).barren_lapses == 2
            child.kill()
            await asyncio.to_thread(child.wait)
            assert await seen.dead() == ("wrk_lone",)
            presence.leases = seen.silence("wrk_lone")
        assert (await looked_after(app, run)).status == "quarantined"
