"""The scheduler: loads runs, decides, appends, and hands work to the bus. Any process may do this for any run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime

from collegium.domain import body as b
from collegium.domain.decide import Decision, decide, wake_at
from collegium.domain.errors import Conflict, NotFound
from collegium.domain.event import Draft, Event, type_of
from collegium.domain.head import Fence, HeadChange
from collegium.domain.ids import Ids
from collegium.domain.message import Message, work_topic
from collegium.domain.run import RunState, apply, fold
from collegium.ports import Bus, Clock, Journal, Receipt

PAGE = 1_000
Proposal = Callable[[RunState], Sequence[Decision]]
"""What somebody wants to append, given the state it would be appended to; empty when it no longer applies."""


class Scheduler:
    """Advances runs.

    States of runs that are being worked on are kept in memory; they are only ever folded from events that the journal
    has
    given back. A state that turns out to be old costs one ``Conflict`` and a reload, never a wrong decision.
    """

    def __init__(self, journal: Journal, bus: Bus, *, clock: Clock, ids: Ids) -> None:
        self._journal = journal
        self._bus = bus
        self._clock = clock
        self._ids = ids
        self._states: dict[str, RunState] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._changed: dict[str, asyncio.Future[RunState]] = {}

    async def submit(self, run: str, tenant: str, submitted: b.RunSubmitted) -> RunState:
        """Accepts a run: durable when this returns. The same run again is accepted once."""
        draft = self._draft(Decision(body=submitted), tenant)
        head = HeadChange(status="queued", wake_at=self._clock.now())
        try:
            events = await self._journal.append(run, [draft], expected=0, head=head).durable()
        except Conflict:
            return await self.load(run)
        state = apply(None, events[0])
        self._keep(state)
        return state

    async def load(self, run: str, *, is_fresh: bool = False) -> RunState:
        """The state of ``run``, from memory where it is at hand. Raises ``NotFound``."""
        state = None if is_fresh else self._states.get(run)
        if state is not None:
            return state
        after = 0
        while True:
            events = await self._journal.read(run, after, PAGE)
            state = fold(events, state)
            if len(events) < PAGE:
                break
            after = events[-1].seq
        if state is None:
            raise NotFound(f"there is no run {run}", run=run)
        self._keep(state)
        return state

    async def advance(self, run: str) -> RunState:
        """Decides until there is nothing left to decide, and publishes the work."""
        return await self.propose(run, lambda _: ())

    async def propose(
        self, run: str, proposal: Proposal, *, fence: Fence | None = None, recording: Sequence[b.Body] = ()
    ) -> RunState:
        """Appends what ``proposal`` says, and everything that follows from it, as one decision.

        On a ``Conflict`` the run is loaded again and the proposal asked again. ``recording`` bodies are appended with
        it in
        the name of ``fence``.

        Raises:
            Fenced: the attempt was taken over.
            StoreError: nothing was stored.
        """
        async with self._lock(run):
            is_fresh = False
            while True:
                state = await self.load(run, is_fresh=is_fresh)
                try:
                    return await self._append(state, proposal, fence, recording)
                except Conflict:
                    is_fresh = True

    def record(self, run: str, tenant: str, bodies: Sequence[b.Body], *, fence: Fence) -> Receipt:
        """Orders recording events of an attempt."""
        drafts = [self._draft(Decision(body=x, task=fence.task, attempt=fence.attempt), tenant) for x in bodies]
        return self._journal.append(run, drafts, fence=fence)

    async def changed(self, run: str, timeout_s: float) -> RunState | None:
        """The state as soon as this process decides something in ``run``; None after ``timeout_s`` without a decision."""
        waiting = self._changed.get(run)
        if waiting is None:
            waiting = self._changed[run] = asyncio.get_running_loop().create_future()
        try:
            return await asyncio.wait_for(asyncio.shield(waiting), timeout_s)
        except TimeoutError:
            return None

    async def publish(self, state: RunState) -> None:
        """Puts the ready tasks on the bus; those that are there already stay as they are."""
        now = self._clock.now()
        for task in state.tasks.values():
            if task.status == "ready" and (task.wake_at is None or task.wake_at <= now):
                await self._bus.publish(
                    Message(
                        id=f"{state.id}/{task.task.id}/{task.attempt}",
                        topic=work_topic(task.task.capability),
                        tenant=state.tenant,
                        body={"run": state.id, "task": task.task.id, "attempt": task.attempt},
                        priority=state.goal.priority,
                    )
                )

    async def _append(
        self, state: RunState, proposal: Proposal, fence: Fence | None, recording: Sequence[b.Body]
    ) -> RunState:
        now = self._clock.now()
        decisions = list(proposal(state))
        preview = self._preview(state, decisions, now)
        while more := decide(preview, now):
            decisions += more
            preview = self._preview(preview, more, now)
        if not decisions:
            await self.publish(state)
            return state
        drafts = [
            self._draft(Decision(body=x, task=fence.task, attempt=fence.attempt), state.tenant)
            for x in recording
            if fence is not None
        ]
        # A start comes before what it covers, an end after what it ends: recorded bodies stand behind the first
        # decision
        # of a start and before those of an end; the fence row is right in both orders only like this.
        starts = [d for d in decisions if isinstance(d.body, (b.TaskRouted, b.TaskStarted))]
        others = [d for d in decisions if not isinstance(d.body, (b.TaskRouted, b.TaskStarted))]
        drafts = [
            *(self._draft(d, state.tenant) for d in starts),
            *drafts,
            *(self._draft(d, state.tenant) for d in others),
        ]
        head = HeadChange(status=preview.status, wake_at=wake_at(preview, now))
        receipt = self._journal.append(state.id, drafts, expected=state.deciding_seq, fence=fence, head=head)
        for event in await receipt.durable():
            state = apply(state, event)
        self._keep(state)
        await self.publish(state)
        return state

    def _preview(self, state: RunState, decisions: Sequence[Decision], now: datetime) -> RunState:
        """The state as it would be: nothing is decided on it unless all of it is appended with ``expected``."""
        for decision in decisions:
            event = Event(
                id="",
                tenant=state.tenant,
                run=state.id,
                seq=state.seq + 1,
                type=type_of(decision.body),
                v=1,
                at=now,
                body=decision.body,
                mac="",
                task=decision.task,
                attempt=decision.attempt,
            )
            state = apply(state, event)
        return state

    def _draft(self, decision: Decision, tenant: str) -> Draft:
        return Draft(
            id=self._ids.new("evt"),
            tenant=tenant,
            at=self._clock.now(),
            body=decision.body,
            task=decision.task,
            attempt=decision.attempt,
        )

    def _keep(self, state: RunState) -> None:
        known = self._states.get(state.id)
        if known is None or known.seq <= state.seq:
            self._states[state.id] = state
        changed = self._changed.pop(state.id, None)
        if changed is not None and not changed.done():
            changed.set_result(state)
        if state.finished is not None:
            self._states.pop(state.id, None)
            self._locks.pop(state.id, None)

    def _lock(self, run: str) -> asyncio.Lock:
        return self._locks.setdefault(run, asyncio.Lock())
