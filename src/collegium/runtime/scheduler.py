"""The scheduler: loads runs, decides, appends, and hands work to the bus. Any process may do this for any run."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from collegium.domain import body as b
from collegium.domain.decision import Decision
from collegium.domain.errors import Conflict, Fenced, NotFound, StoreError, TopicFull, UsageError
from collegium.domain.event import Draft, Event
from collegium.domain.head import Fence, HeadChange
from collegium.domain.ids import Ids
from collegium.domain.message import Message, work_topic
from collegium.domain.run import RunState, apply, fold
from collegium.domain.task import TaskState
from collegium.oversight.approvals import ApprovalPolicy
from collegium.ports import Bus, Clock, Journal, Receipt
from collegium.runtime.agenda import Agenda, Proposal
from collegium.runtime.funding import Funding
from collegium.runtime.hints import Hints
from collegium.runtime.history import prefix
from collegium.runtime.left_open import left_open
from collegium.telemetry import RUNS, SUBMITTED, Meter

PAGE = 1_000
KEPT_STATES = 1_024
_log = logging.getLogger("collegium.scheduler")


class Scheduler:
    """Advances runs.

    States of runs that are being worked on are kept in memory; they are only ever folded from events that the journal
    has
    given back. A state that turns out to be old costs one ``Conflict`` and a reload, never a wrong decision.

    Args:
        topic: The capability under which tasks are handed out whose own is declared by nobody.

    Attributes:
        hints: Told of everything that is appended here.
    """

    def __init__(
        self,
        journal: Journal,
        bus: Bus,
        *,
        clock: Clock,
        ids: Ids,
        funding: Funding | None = None,
        approvals: ApprovalPolicy | None = None,
        meter: Meter | None = None,
        topic: Callable[[str], Awaitable[str]] | None = None,
    ) -> None:
        self.hints = Hints(clock=clock)
        self._meter = meter or Meter()
        self._topic = topic or _same
        self._journal = journal
        self._bus = bus
        self._clock = clock
        self._ids = ids
        self._funding = funding
        self._approvals = approvals
        self._states: dict[str, RunState] = {}
        self._proposed: dict[str, list[_Proposed]] = {}
        self._deciders: dict[str, asyncio.Task[None]] = {}
        self._changed: dict[str, set[asyncio.Future[RunState]]] = {}
        self._is_bus_away = False

    async def submit(
        self, run: str, tenant: str, submitted: b.RunSubmitted | b.RunForked, *, project: str = ""
    ) -> RunState:
        """Accepts a run: durable when this returns. The same run again is accepted once.

        A fork belongs to ``project``, that of its parent; what is submitted says it itself.

        What follows from it by itself is decided in the same append, and its first work published; not where it has to
        draw on accounts, whose draws name a run that is there.
        """
        at = self._clock.now()
        first = self._draft(Decision(body=submitted), tenant, at)
        decisions, head = await self._opening(run, first, project)
        drafts = [first, *(self._draft(d, tenant, at) for d in decisions)]
        try:
            events = await self._journal.append(run, drafts, expected=0, head=head).durable()
        except Conflict:
            return await self.load(run)
        self._meter.add(SUBMITTED)
        self.hints.moved(run, events[-1].seq)
        if isinstance(submitted, b.RunForked):
            return await self.load(run)
        state = apply(None, events[0])
        for event in events[1:]:
            state = apply(state, event)
        self._keep(state)
        await self.publish(state, only=_made_ready(decisions))
        return state

    async def _opening(self, run: str, first: Draft, project: str) -> tuple[Sequence[Decision], HeadChange]:
        """What is decided together with the first event of a run, and its head."""
        project = first.body.goal.project if isinstance(first.body, b.RunSubmitted) else project
        is_drawing = self._funding is not None and self._funding.accounts.has_runs
        if is_drawing or not isinstance(first.body, b.RunSubmitted):
            return (), HeadChange(status="queued", wake_at=first.at, project=project)
        begun = Event(
            id="", tenant=first.tenant, run=run, seq=1, type=first.type, v=1, at=first.at, body=first.body, mac=""
        )
        agenda = Agenda(apply(None, begun), first.at, None, self._approvals)
        await agenda.conclude()
        return agenda.decisions, agenda.head

    async def load(self, run: str, *, is_fresh: bool = False) -> RunState:
        """The state of ``run``, from memory where it is at hand. Raises ``NotFound``."""
        state = None if is_fresh else self._states.get(run)
        if state is not None:
            return state
        after = 0
        while True:
            events = await self._journal.read(run, after, PAGE)
            if after == 0 and events:
                async for page in prefix(self._journal, events[0]):
                    state = fold(page, state)
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

    async def propose(self, run: str, proposal: Proposal, *, fence: Fence | None = None) -> RunState:
        """Appends what ``proposal`` says, and everything that follows from it, as one decision.

        Proposals for one run that come while another is being stored are taken together, so that eight tasks which
        start at once cost one commit. On a ``Conflict`` the run is loaded again and every proposal asked again. A
        caller that is cancelled leaves its proposal standing: it may still be stored.

        Raises:
            Fenced: the attempt was taken over; the others are stored all the same.
            StoreError: nothing was stored.
        """
        waiting = _Proposed(proposal, fence, asyncio.get_running_loop().create_future())
        self._proposed.setdefault(run, []).append(waiting)
        if run not in self._deciders:
            self._deciders[run] = asyncio.create_task(self._work_off(run))
        try:
            return await waiting.done  # a cancel ends this future and nothing else
        except asyncio.CancelledError:
            if not waiting.done.cancelled():
                waiting.done.exception()  # looked at, so that it is not reported as forgotten
            raise

    def record(self, run: str, tenant: str, bodies: Sequence[b.Body], *, fence: Fence) -> Receipt:
        """Orders recording events of an attempt."""
        at = self._clock.now()
        drafts = [self._draft(Decision(body=x, task=fence.task, attempt=fence.attempt), tenant, at) for x in bodies]
        receipt = self._journal.append(run, drafts, fence=fence)
        self.hints.moved(run)
        return receipt

    async def changed(self, run: str, timeout_s: float) -> RunState | None:
        """The state as soon as this process decides something in ``run``; None after ``timeout_s`` without that."""
        waiting: asyncio.Future[RunState] = asyncio.get_running_loop().create_future()
        self._changed.setdefault(run, set()).add(waiting)
        try:
            # Not wait_for: before Python 3.12 it loses a cancellation that comes together with the result.
            async with asyncio.timeout(timeout_s):
                return await waiting
        except TimeoutError:
            return None
        finally:
            waiters = self._changed.get(run)
            if waiters is not None:
                waiters.discard(waiting)
                if not waiters:
                    del self._changed[run]

    async def publish(self, state: RunState, *, only: Collection[str] | None = None) -> None:
        """Puts the ready tasks (of ``only``) on the bus; those that are there already stay as they are.

        Never fails: where the bus is away or full, what was decided is durable all the same. The head is due in a
        second, and whoever sweeps publishes again.
        """
        now = self._clock.now()
        tasks = state.tasks.values() if only is None else [state.tasks[name] for name in only]
        ready = [t for t in tasks if t.status == "ready" and (t.wake_at is None or t.wake_at <= now)]
        if not ready:
            return
        messages = [_message(state, task, await self._topic(task.task.capability)) for task in ready]
        try:
            await self._bus.publish(*messages)
        except (StoreError, TopicFull, OSError) as error:
            if not self._is_bus_away:
                _log.warning("work cannot be published, from %s on; it is tried again: %s", state.id, error)
            self._is_bus_away = True
        else:
            self._is_bus_away = False

    async def post(self, message: Message) -> None:
        """Puts a copy of something that the journal has on the bus, for whoever watches; never fails."""
        try:
            await self._bus.publish(message)
        except (StoreError, TopicFull, UsageError, OSError) as error:
            _log.warning("no copy of %s is on the bus: %s", message.id, error)

    async def _work_off(self, run: str) -> None:
        """Decides on all that is proposed for ``run``, batch by batch: one task per run and process."""
        try:
            while batch := self._proposed.pop(run, None):
                await self._decide(run, batch)
        finally:
            del self._deciders[run]
            for one in self._proposed.pop(run, ()):  # only after a cancel from outside
                one.done.cancel()

    async def _decide(self, run: str, batch: Sequence[_Proposed]) -> None:
        is_fresh, is_done, was_late = False, False, False
        while not is_done:
            try:
                state, heard, is_done = await self._append(await self.load(run, is_fresh=is_fresh), batch)
                if was_late and state.finished is not None and self._funding is not None:
                    # Others ended it meanwhile: what was drawn for it here is not wanted any more.
                    await self._give_back(self._funding, state)
            except Conflict:
                is_fresh = was_late = True
                continue
            except Fenced as error:
                if len(batch) == 1:
                    _tell(batch, error)
                    return
                for one in batch:  # one of them was taken over: the others must not suffer for it
                    await self._decide(run, [one])
                return
            except BaseException as error:
                _tell(batch, error)
                if isinstance(error, Exception):
                    return
                raise
            _tell(batch[:heard], state)
            batch, is_fresh = batch[heard:], False

    async def _append(self, state: RunState, batch: Sequence[_Proposed]) -> tuple[RunState, int, bool]:
        """The new state, how many of ``batch`` were heard, and whether nothing is left to decide."""
        agenda = Agenda(state, self._clock.now(), self._funding, self._approvals)
        heard = 0
        for one in batch:
            if not await agenda.take(one.proposal, one.fence):
                break
            heard += 1
        if not agenda.is_cut and agenda.is_over:
            # What attempts have recorded that close with this append is durable only with it: it is looked at after.
            agenda.is_cut = _closes_attempts(state, agenda.preview)
            agenda.add([] if agenda.is_cut else await left_open(self._journal, agenda.preview))
        await agenda.conclude()
        if not agenda.decisions:
            await self.publish(state)
            return state, heard, True
        decisions, at = agenda.decisions, self._clock.now()
        receipt = self._journal.append(
            state.id,
            [self._draft(d, state.tenant, at) for d in decisions],
            expected=state.deciding_seq,
            fence=tuple(agenda.fences),
            head=agenda.head,
        )
        for event in await receipt.durable():
            state = apply(state, event)
        self.hints.moved(state.id, state.seq)
        if any(isinstance(d.body, b.RunFinished) for d in decisions):
            self._meter.add(RUNS, state.status)
        self._keep(state)
        await self.publish(state, only=_made_ready(decisions))
        if self._funding is not None and agenda.is_giving_back:
            await self._give_back(self._funding, state)
        return state, heard, not agenda.is_cut

    async def _give_back(self, funding: Funding, state: RunState) -> None:
        try:
            await funding.settle(state)
        except (StoreError, OSError):
            # The run says what it took; whoever looks for orphans settles it.
            _log.exception("what %s did not use could not be given back", state.id)

    def _draft(self, decision: Decision, tenant: str, at: datetime) -> Draft:
        return Draft(
            id=self._ids.new("evt"),
            tenant=tenant,
            at=at,
            body=decision.body,
            task=decision.task,
            attempt=decision.attempt,
        )

    def _keep(self, state: RunState) -> None:
        known = self._states.get(state.id)
        if known is None or known.seq <= state.seq:
            self._states.pop(state.id, None)
            self._states[state.id] = state
            while len(self._states) > KEPT_STATES:  # the one that was not moved for longest; it can be read again
                del self._states[next(iter(self._states))]
        for waiting in self._changed.pop(state.id, ()):
            if not waiting.done():
                waiting.set_result(state)
        if state.finished is not None:
            self._states.pop(state.id, None)


@dataclass(frozen=True)
class _Proposed:
    """A proposal that waits to be stored."""

    proposal: Proposal
    fence: Fence | None
    done: asyncio.Future[RunState]


def _made_ready(decisions: Sequence[Decision]) -> list[str]:
    """The tasks that became ready."""
    return [d.task for d in decisions if isinstance(d.body, b.TaskReady) and d.task]


async def _same(capability: str) -> str:
    return capability


def _message(state: RunState, task: TaskState, capability: str) -> Message:
    """What waits on the bus for whoever works on the task next."""
    return Message(
        id=f"{state.id}/{task.task.id}/{task.attempt}",
        topic=work_topic(capability),
        tenant=state.tenant,
        body={"run": state.id, "task": task.task.id, "attempt": task.attempt},
        priority=state.goal.priority,
    )


def _closes_attempts(before: RunState, after: RunState) -> bool:
    """Whether attempts are parked in ``after`` that were open in ``before``."""
    return any(t.status == "running" and after.tasks[name].status == "parked" for name, t in before.tasks.items())


def _tell(batch: Sequence[_Proposed], outcome: RunState | BaseException) -> None:
    """Tells everybody what came of it: whatever it was, nobody may wait for ever."""
    for one in batch:
        if one.done.done():
            continue
        if isinstance(outcome, BaseException):
            one.done.set_exception(outcome)
        else:
            one.done.set_result(outcome)
