"""Two workers over one store: what becomes of the tasks of one that is killed, stopped, ended, or that kills itself."""

from __future__ import annotations

import asyncio
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from collegium.adapters.presence import FilePresence
from collegium.app import Collegium
from collegium.config import Settings, WorkerSection
from collegium.domain.body import TaskLapsed
from collegium.domain.event import Event
from collegium.domain.plan import Plan, Task
from collegium.wiring import open_collegium
from tests.e2e.takeover_worker import LEASE_S, TOOLS

ITS_LEASE_S = 0.3
"""Where one worker is there at a time nobody takes it for dead, and so many leases pass that they may be short."""
WORKER = Path(__file__).with_name("takeover_worker.py")
ONE = Plan(tasks=(Task(id="do", title="Do it", capability="operate", instructions="Do it."),))
DONE = {"reply": "Done.", "times": "any"}


def call(name: str, **arguments: object) -> dict[str, Any]:
    return {"tool_calls": [{"name": name, "arguments": arguments}], "times": "any"}


class Place:
    """A store, the workers over it, and the traces of their tools."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.workers: list[subprocess.Popen[str]] = []
        self.lease_s = LEASE_S

    def script(self, *steps: dict[str, Any]) -> str:
        path = self.folder / "script.json"
        path.write_text(json.dumps({"ordered": False, "step": steps}))
        return f"scripted:{path}"

    def start(self, model: str) -> subprocess.Popen[str]:
        log = (self.folder / f"worker-{len(self.workers)}.log").open("w")
        arguments = [sys.executable, str(WORKER), str(self.data), model, str(self.lease_s)]
        worker = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=log, text=True)
        log.close()
        self.workers.append(worker)
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n", (self.folder / f"worker-{len(self.workers) - 1}.log").read_text()
        return worker

    def traces(self, name: str) -> list[list[str]]:
        path = self.folder / name
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []

    def frozen_alone(self) -> list[int]:
        """Processes of one task that have stopped themselves, in order."""
        alone = [pid for [pid] in self.traces("alone")]
        return [int(pid) for _, pid in self.traces("frozen") if pid in alone]

    def open_gate(self, name: str) -> None:
        (self.folder / name).touch()

    @asynccontextmanager
    async def submitter(self, model: str) -> AsyncIterator[Collegium]:
        settings = Settings(data_dir=self.data, worker=WorkerSection(lease_s=self.lease_s))
        async with open_collegium(settings, tools=TOOLS, scope="none", model=model) as app:
            yield app

    def close(self) -> None:
        for worker in self.workers:
            worker.kill()
            worker.communicate()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    place.close()


async def until(condition: Callable[[], object], within_s: float | None = 60) -> None:
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - other processes are waited for
            await asyncio.sleep(0.01)


@asynccontextmanager
async def kept_up(place: Place, model: str) -> AsyncIterator[None]:
    """A worker at a time: when it dies, there is the next.

    How many die is not told: an attempt that got its call into the journal before it died has come further than the one
    before, and it is counted anew.
    """

    async def replace() -> None:
        while True:
            await until(lambda: place.workers[-1].poll() is not None, within_s=None)
            place.start(model)

    place.start(model)
    replacing = asyncio.create_task(replace())
    try:
        yield
    finally:
        replacing.cancel()
        with suppress(asyncio.CancelledError):
            await replacing


async def events_of(app: Collegium, run: str) -> list[Event]:
    return [e async for e in app.events(run)]


async def attempts(app: Collegium, run: str, type_: str = "task.started", task: str = "do") -> int:
    return sum(1 for e in await events_of(app, run) if e.type == type_ and e.task == task)


async def test_the_tasks_of_a_killed_worker_are_taken_over(place: Place) -> None:
    model = place.script({"expect_last": ["it is open"], **DONE}, call("look", gate="gate"))
    workers = [place.start(model)]
    async with place.submitter(model) as app:
        runs = [await app.submit(f"goal {n}", plan=ONE) for n in range(5)]
        await until(lambda: len(place.traces("looking")) == len(runs))
        workers.append(place.start(model))
        workers[0].kill()
        killed_s = time.monotonic()
        await until(lambda: len(place.traces("looking")) == 2 * len(runs))
        took_s = time.monotonic() - killed_s
        place.open_gate("gate")
        for run in runs:
            report = await asyncio.wait_for(run.result(), 60)
            assert report.status == "succeeded"
            events = await events_of(app, run.id)
            assert [e.type for e in events].count("task.lapsed") == 1
            assert [e.seq for e in events] == list(range(1, len(events) + 1))
            # The lost attempt's answer was durable or is asked for again; it is never recorded twice.
            assert len({e.body.step for e in events if e.type == "step.proposed"}) == 2  # type: ignore[attr-defined]
            assert await app.stores.journal.verify(run.id) is None  # type: ignore[attr-defined]
    assert {pid for _, pid in place.traces("looking")[len(runs) :]} == {str(workers[1].pid)}
    print(f"taken over after {took_s:.2f} s")


async def test_a_worker_that_was_stopped_past_its_lease_changes_nothing_when_it_goes_on(place: Place) -> None:
    """Stopped inside a read tool: the next call of the stale attempt, a write, must not be made."""
    model = place.script(
        {"expect_last": ["paid 5"], **DONE},
        {"expect_last": ["it is open"], **call("pay", amount=5)},
        call("look", gate="gate"),
    )
    stopped = place.start(model)
    async with place.submitter(model) as app:
        runs = [await app.submit(f"goal {n}", plan=ONE) for n in range(3)]
        await until(lambda: len(place.traces("looking")) == len(runs))
        heir = place.start(model)
        os.kill(stopped.pid, signal.SIGSTOP)
        place.open_gate("gate")
        for run in runs:
            assert (await asyncio.wait_for(run.result(), 60)).status == "succeeded"
        before = {run.id: await events_of(app, run.id) for run in runs}
        os.kill(stopped.pid, signal.SIGCONT)
        # It has seen that it lost its tasks when it is alive and takes new ones.
        heir.send_signal(signal.SIGTERM)
        await asyncio.to_thread(heir.wait, 60)
        later = await app.submit("one more", plan=ONE)
        assert (await asyncio.wait_for(later.result(), 60)).status == "succeeded"
        for run in runs:
            assert await events_of(app, run.id) == before[run.id]
            started = [e.body.worker for e in before[run.id] if e.type == "task.started"]  # type: ignore[attr-defined]
            assert len(set(started)) == 2
    paid = place.traces("paid")
    assert sorted(run for run, _, _ in paid) == sorted(r.id for r in (*runs, later))
    assert {pid for run, _, pid in paid if run != later.id} == {str(heir.pid)}
    assert [pid for run, _, pid in paid if run == later.id] == [str(stopped.pid)]


async def test_what_an_ended_worker_parks_goes_on_at_once_with_another(place: Place) -> None:
    model = place.script(
        {"expect_last": ["it is open"], **DONE},
        {"expect_last": ["slowly"], **call("slow_pay", gate="money")},
        {"expect_last": ["paid"], **DONE},
        call("look", gate="gate"),
    )
    slowly = Plan(tasks=(Task(id="do", title="Do it", capability="operate", instructions="Pay slowly"),))
    ended = place.start(model)
    async with place.submitter(model) as app:
        looking = await app.submit("look", plan=ONE)
        paying = await app.submit("pay", plan=slowly)
        await until(lambda: place.traces("looking") and place.traces("paying"))
        place.start(model)
        ended.send_signal(signal.SIGTERM)
        await until(lambda: len(place.traces("looking")) == 2)
        assert ended.poll() is None, "it lets the write that has begun end"
        place.open_gate("money")
        place.open_gate("gate")
        assert await asyncio.to_thread(ended.wait, 60) == 0
        for run in (looking, paying):
            report = await asyncio.wait_for(run.result(), 60)
            assert report.status == "succeeded"
            state = await app.state(run.id)
            assert (state.tasks["do"].failures, state.tasks["do"].barren_lapses) == (0, 0)
            assert "task.lapsed" not in [e.type for e in await events_of(app, run.id)]
        assert await attempts(app, looking.id, "task.parked") == 1
    assert len(place.traces("paid")) == len(place.traces("paying")) == 1


async def test_a_task_that_kills_its_workers_is_quarantined_alone_and_the_others_end(place: Place) -> None:
    model = place.script(
        {"expect_last": ["it is open"], **DONE},
        {"expect_last": ["poison"], **call("die")},
        call("look", gate="gate"),
    )
    poison = Plan(tasks=(Task(id="do", title="Do it", capability="operate", instructions="poison"),))
    async with place.submitter(model) as app, kept_up(place, model):
        runs = [await app.submit(f"goal {n}", plan=ONE) for n in range(4)]
        await until(lambda: len(place.traces("looking")) == len(runs))
        bad = await app.submit("kill", plan=poison)
        report = await asyncio.wait_for(bad.result(), 60)
        assert report.status == "failed"
        assert (await app.state(bad.id)).tasks["do"].status == "quarantined"
        place.open_gate("gate")
        for run in runs:
            assert (await asyncio.wait_for(run.result(), 60)).status == "succeeded"
        lapses = [e.body for e in await events_of(app, bad.id) if isinstance(e.body, TaskLapsed)]
    assert [one.has_progressed for one in lapses[-3:]] == [False] * 3
    assert sum(one.has_progressed for one in lapses) <= 1, "its call is kept once"
    died = [pid for _, pid in place.traces("died")]
    assert len(died) == len(lapses)
    alone = [pid for [pid] in place.traces("alone")]
    assert died[-1] == alone[-1]
    assert [pid for pid in died if pid not in alone] == [str(w.pid) for w in place.workers[:-1]]
    assert place.workers[-1].poll() is None


async def test_a_process_of_its_own_that_is_stopped_for_a_while_is_no_dead_one(place: Place) -> None:
    model = place.script({"expect_last": ["it went on"], **DONE}, call("freeze"))
    place.lease_s = ITS_LEASE_S
    async with place.submitter(model) as app, kept_up(place, model):
        run = await app.submit("freeze", plan=ONE)
        await until(lambda: place.frozen_alone())
        lone = (await app.state(run.id)).tasks["do"].worker or ""
        seen = FilePresence(place.data / "workers", lease_s=place.lease_s)
        async with asyncio.timeout(60):
            while (seen.silence(lone) or 0.0) < 3:
                assert lone not in await seen.dead() or seen.silence(lone) != math.inf
                await asyncio.sleep(0.05)
        os.kill(place.frozen_alone()[-1], signal.SIGCONT)
        assert (await asyncio.wait_for(run.result(), 60)).status == "succeeded"
        assert await attempts(app, run.id) == len(place.traces("frozen"))


async def test_a_process_of_its_own_that_hangs_is_ended_and_that_counts(place: Place) -> None:
    model = place.script(call("freeze"))
    place.lease_s = ITS_LEASE_S
    async with place.submitter(model) as app, kept_up(place, model):
        run = await app.submit("freeze", plan=ONE)
        assert (await asyncio.wait_for(run.result(), 120)).status == "failed"
        assert (await app.state(run.id)).tasks["do"].status == "quarantined"
        assert await attempts(app, run.id) == len(place.traces("frozen"))
    assert place.frozen_alone()
    for pid in place.frozen_alone():
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
