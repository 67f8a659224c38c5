"""The people of a world: they submit, cancel, add, answer, stop and start, and try again until they are heard."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from random import Random
from typing import Any

from collegium.app import Collegium
from collegium.domain.errors import AlreadyDecided, NotFound, StoreUnavailable, UsageError
from collegium.runtime.inbox import Question
from tests.simulation.host import Host
from tests.simulation.invariants import Watch
from tests.simulation.loop import VirtualLoop
from tests.simulation.outside import TIMEOUT_S, Outside
from tests.simulation.program import TEAM
from tests.simulation.scenario import Scenario, Submission, Switching

CERTAIN_S = 6 * TIMEOUT_S
"""After so long nothing that was sent is still on its way, and nobody who stood still is about to send."""
Act = Callable[[Collegium], Coroutine[Any, Any, Any]]


class People:
    """Those outside who use the team, through whatever host is there.

    Args:
        hosts: The hosts that live; the same list all the time.
    """

    def __init__(
        self,
        scenario: Scenario,
        *,
        hosts: list[Host],
        loop: VirtualLoop,
        rng: Random,
        outside: Outside,
        watch: Watch,
    ) -> None:
        self.accepted: dict[str, str] = {}
        self.is_over = False
        """Whether the world ends: from now on nobody tries again."""
        self._scenario = scenario
        self._hosts = hosts
        self._loop = loop
        self._rng = rng
        self._outside = outside
        self._watch = watch
        self._unsure_since: dict[str, float] = {}

    def begin(self) -> None:
        """Everybody starts to do what the scenario says."""
        works = [self._submit(s) for s in self._scenario.submissions]
        works += [self._drain(at_s) for at_s in self._scenario.drains_at_s]
        works += [self._switch(s) for s in self._scenario.switchings]
        if self._scenario.is_answering:
            works += [self._answer(), self._answer()]
        for work in (*works, self._resume()):
            self._loop.spawn(None, work)

    async def any_host(self) -> Host:
        """Some host that lives, as soon as there is one."""
        while not self._hosts:  # noqa: ASYNC110 - virtual time costs nothing
            await asyncio.sleep(0.2)
        return self._rng.choice(self._hosts)

    async def persist(self, act: Act) -> Any:
        """What ``act`` gives, on whatever host it succeeds."""
        while True:
            host = await self.any_host()
            try:
                return await host.call(act(host.app))
            except (asyncio.CancelledError, StoreUnavailable):
                if self.is_over:
                    raise
            await asyncio.sleep(self._rng.uniform(0.1, 0.5))

    async def _submit(self, submission: Submission) -> None:
        await asyncio.sleep(submission.at_s)
        run = await self.persist(
            lambda app: app.submit(
                submission.text,
                plan=None if submission.is_planned else submission.plan,
                limits=submission.limits,
                is_plan_reviewed=submission.is_reviewed,
                tools=TEAM if submission.is_team else (),
                idempotency_key=submission.mark,
            )
        )
        self.accepted[submission.mark] = run.id
        if submission.says_after_s is not None:
            await asyncio.sleep(submission.says_after_s)
            with suppress(UsageError):
                await self.persist(lambda app: app.inbox.say(run.id, "Be quick.", principal="local", tenant="default"))
        if submission.fork_after_s is not None:
            self._loop.spawn(None, self._fork(run.id, submission.fork_after_s))
        if submission.cancel_after_s is not None:
            await asyncio.sleep(submission.cancel_after_s)
            await self.persist(lambda app: app.cancel(run.id))

    async def _fork(self, run: str, after_s: float) -> None:
        """Goes on from some event of the run a second time."""
        await asyncio.sleep(after_s)
        at = self._rng.randint(1, len(self._watch.histories[run].rows))
        with suppress(UsageError):  # nothing is left to do behind that event
            await self.persist(lambda app: app.fork(run, at=at))

    async def _drain(self, at_s: float) -> None:
        """A host is stopped in good order, and another one takes its place."""
        await asyncio.sleep(at_s)
        host = await self.any_host()
        host.machine.faults.counts["drain"] += 1
        with suppress(StoreUnavailable):
            try:
                await host.call(host.app.aclose())
            except asyncio.CancelledError:
                if self.is_over:
                    raise
        host.machine.kill()

    async def _resume(self) -> None:
        """Resumes what was drained and what was quarantined by accident: nothing may wait for that alone."""
        while True:
            await asyncio.sleep(1.0)
            for history in list(self._watch.histories.values()):
                state = history.state
                if state is not None and any(t.park == "drain" and t.wake_at is None for t in state.tasks.values()):
                    with suppress(UsageError):
                        await self.persist(_resuming(history.run))

    async def _switch(self, switching: Switching) -> None:
        """Something is stopped, and started again a while later."""
        await asyncio.sleep(switching.at_s)
        name = self.accepted.get(switching.name, switching.name)
        await self.persist(lambda app: app.breaker.stop(switching.kind, name))
        self._watch.stopped(switching.kind, name, is_stopped=True)
        await asyncio.sleep(switching.seconds)
        self._watch.stopped(switching.kind, name, is_stopped=False)
        await self.persist(lambda app: app.breaker.start(switching.kind, name))
        # Somebody else may have stopped it meanwhile: which of the two came last is open.
        self._watch.stopped(switching.kind, name, is_stopped=False)

    async def _answer(self) -> None:
        """Answers questions; two of them may do so at once, and only the first word holds."""
        while True:
            await asyncio.sleep(self._rng.uniform(0.5, 3.0))
            for question in await self.persist(lambda app: app.approvals()):
                word = self._word(question)
                if word is not None:
                    id_ = question.approval.request.approval
                    with suppress(AlreadyDecided, NotFound):
                        await self.persist(_answering(id_, word))

    def _word(self, question: Question) -> str | None:
        """The answer; None as long as nobody can know."""
        request = question.approval.request
        if request.kind != "outcome":
            return "approve" if self._rng.random() < 0.75 else "reject"
        since = self._unsure_since.setdefault(request.approval, self._loop.time())
        if self._loop.time() - since < CERTAIN_S:
            return None
        if self._outside.effects[str(request.tool), str(request.key)]:
            return "done"
        return self._rng.choice(("not-done", "retry"))


def _resuming(run: str) -> Act:
    return lambda app: app.resume(run)


def _answering(approval: str, word: str) -> Act:
    return lambda app: app.answer(approval, word)
