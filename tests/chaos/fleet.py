"""A fleet: two workers and a model on one store, and the driver that submits, kills and waits."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

from collegium.app import Collegium
from collegium.domain.head import HeadQuery
from collegium.domain.usage import Limits
from collegium.wiring import open_collegium
from tests.chaos import checks, goals, model
from tests.chaos.far_side import chaos_tools
from tests.chaos.glance import glance_at
from tests.chaos.hosts import HostWorker
from tests.chaos.outcome import Outcome
from tests.chaos.processes import Child, Place, start, work

IN_FLIGHT = 30
LEAST_IN_FLIGHT = 20
STEPS_BETWEEN = 20
SETTLE_S = 240.0
STOP_S = 15.0


class Fleet:
    """The processes of one trial."""

    def __init__(
        self, app: Collegium, place: Place, outcome: Outcome, rng: random.Random, *, settle_s: float = SETTLE_S
    ) -> None:
        self.app = app
        self.place = place
        self.outcome = outcome
        self.rng = rng
        self.workers: dict[str, Child | HostWorker] = {}
        self.killed: dict[str, list[float]] = {}
        self.accepted: dict[str, tuple[str, str]] = {}
        self.limits: Limits | None = None
        self.is_forgiving = False
        self._tags = 0
        self._settle_s = settle_s
        self._steps = 0
        self._kinds = list(goals.KINDS)
        self.glance = glance_at(place)

    def close(self) -> None:
        """Ends every process that is left."""
        for child in self.workers.values():
            child.kill()
        self.glance.close()

    async def hire(self, count: int = 1) -> None:
        """Starts workers and waits until they work."""
        await self.take_in([start(work, self.place) for _ in range(count)])

    async def take_in(self, children: Sequence[Child | HostWorker]) -> None:
        """Waits until these workers work, and counts them in."""
        for child in children:
            child.name = await child.told()
            self.workers[child.name] = child

    async def submit(self, tag: str, kind: str) -> str:
        """Submits one run, under its tag as idempotency key."""
        run = await self.app.submit(
            goals.goal(tag, kind),
            plan=goals.plan(tag, kind),
            model=self.place.model,
            limits=self.limits,
            idempotency_key=tag,
        )
        self.accepted[run.id] = (tag, kind)
        return run.id

    async def top_up(self, wanted: int = IN_FLIGHT) -> None:
        """Submits until ``wanted`` runs are in flight."""
        while (missing := wanted - self.in_flight()) > 0:
            batch = []
            for _ in range(missing):
                self._tags += 1
                kind = self._kinds[self._tags % len(self._kinds)]
                batch.append(self.submit(f"r{self.outcome.seed}-{self._tags}", kind))
            await asyncio.gather(*batch)

    def in_flight(self) -> int:
        """Runs that are accepted, not ended and wait for nobody."""
        return self.glance.in_flight()

    def held_by(self, worker: str) -> int:
        """Open attempts of a worker."""
        return self.glance.held_by(worker)

    async def ready(self) -> None:
        """Waits until so many runs are being worked on that a kill hits something, and some have got on since the last.

        Else every other task would be one whose worker died three times before it could do anything.
        """
        await self.top_up()
        await until(
            lambda: self.glance.started() >= LEAST_IN_FLIGHT and self.glance.steps() >= self._steps + STEPS_BETWEEN,
            "so many runs are worked on",
            timeout_s=SETTLE_S,
            again=self.top_up,
        )
        self._steps = self.glance.steps()

    async def intent(self, timeout_s: float = 10.0) -> str:
        """Waits for the next intent and gives the worker that is about to act on it."""
        last = self.glance.newest_intent()
        async with asyncio.timeout(timeout_s):
            while True:
                found = self.glance.newest_intent()
                if found is not None and (last is None or found[0] != last[0]) and found[1] in self.workers:
                    return found[1]
                await asyncio.sleep(0.001)

    def kill(self, worker: str) -> None:
        """SIGKILL."""
        child = self.workers.pop(worker)
        flying = self.in_flight()
        self.outcome.least_in_flight = min(self.outcome.least_in_flight or flying, flying)
        self.killed[worker] = [time.time()]
        child.kill()
        self.outcome.kills += 1

    async def pause(self, worker: str) -> bool:
        """SIGSTOP until all its tasks have been taken over, then SIGCONT.

        Whether that was so: one that is stopped in the middle of a commit holds the lock of the store's file, and
        nobody takes over anything before it goes on. It is let go on then, and only counted.
        """
        child = self.workers[worker]
        flying = self.in_flight()
        self.outcome.least_in_flight = min(self.outcome.least_in_flight or flying, flying)
        child.send(signal.SIGSTOP)
        stopped_at = time.time()
        held = self.held_by(worker)
        try:
            await until(
                lambda: self.held_by(worker) == 0, "the tasks of the stopped worker are taken over", timeout_s=STOP_S
            )
        except TimeoutError:
            if not self.glance.is_locked():
                raise
            self.outcome.note("stops that fell into a commit, with the file's lock held")
            stopped_at = time.time()  # nobody could take over anything before now
            return False
        finally:
            self.killed.setdefault(worker, []).append(stopped_at)
            child.send(signal.SIGCONT)
        self.outcome.pauses += 1
        self.outcome.note("attempts taken over from stopped workers", held)
        return True

    async def settle(self) -> None:
        """Waits until every run has ended or waits for a person, then ends the workers in peace."""
        query = HeadQuery(statuses=frozenset({"waiting"}), limit=500)

        async def is_over() -> bool:
            waiting = await self.app.runs(query)
            return not self.in_flight() and all(h.wake_at is None for h in waiting)

        try:
            await until_so(is_over, "every run has ended", timeout_s=self._settle_s)
        except TimeoutError as error:
            # What did not end is named by the checks.
            self.outcome.note(f"trials that did not settle: {error}")
        for child in list(self.workers.values()):
            code = await child.terminate()
            if code != 0:
                self.outcome.wrong("lost", f"a worker that was asked to end did so with {code}")
        self.workers.clear()

    async def end(self) -> None:
        """Settles, then judges."""
        await self.settle()
        await self.judge()

    async def judge(self) -> None:
        """Checks every run, and how long the tasks of the dead waited."""
        await checks.check(self.app, self.place, self.accepted, self.outcome, is_forgiving=self.is_forgiving)
        for head in await checks.every_head(self.app):
            events = [e async for e in self.app.events(head.run)]
            checks.note_recoveries(events, self.killed, self.outcome)


@asynccontextmanager
async def fleet(
    place: Place,
    outcome: Outcome,
    *,
    slow_s: tuple[float, float] = (0.05, 0.4),
    workers: int = 2,
    settle_s: float = SETTLE_S,
    is_forgiving: bool = False,
) -> AsyncIterator[Fleet]:
    """A model unless ``place`` names one, ``workers`` workers and a driver on the store in ``place.folder``.

    ``is_forgiving``: a run may end without success, as long as it says why.
    """
    rng = random.Random(outcome.seed)
    place.folder.mkdir(parents=True, exist_ok=True)
    server = None if place.has_model else start(model.serve, place.model_log, slow_s)
    try:
        if server is not None:
            place = replace(place, model=f"openai-compatible:chaos@{await server.told()}/v1")
        async with open_collegium(place.settings, scope="none", model=place.model, tools=chaos_tools(place.far)) as app:
            made = Fleet(app, place, outcome, rng, settle_s=settle_s)
            made.is_forgiving = is_forgiving
            try:
                await made.hire(workers)
                yield made
            finally:
                made.close()
    finally:
        if server is not None:
            server.kill()


async def until(
    holds: Callable[[], bool],
    what: str,
    *,
    timeout_s: float = 30.0,
    again: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Waits until ``holds()``; calls ``again`` meanwhile."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout_s:g} s: {what}")
        if again is not None:
            await again()
        await asyncio.sleep(0.01)


async def until_so(holds: Callable[[], Awaitable[bool]], what: str, *, timeout_s: float = 30.0) -> None:
    """Waits until ``await holds()``."""
    deadline = time.monotonic() + timeout_s
    while not await holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout_s:g} s: {what}")
        await asyncio.sleep(0.05)
