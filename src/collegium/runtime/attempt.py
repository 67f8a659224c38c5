"""An attempt: one worker's try at one task, from its start to its end in the journal."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from datetime import timedelta

from msgspec.structs import replace

from collegium.agents.desk import Desk, Earlier
from collegium.agents.perform import perform
from collegium.agents.roster import Roster, digest
from collegium.agents.salvage import salvage
from collegium.agents.talk import Talk
from collegium.domain import body as b
from collegium.domain.agent import Agent
from collegium.domain.conversation import Conversation, converse
from collegium.domain.decision import Decision
from collegium.domain.errors import CollegiumError, Fenced, LimitReached
from collegium.domain.head import Fence
from collegium.domain.policy import Judgement
from collegium.domain.result import TaskResult
from collegium.domain.run import RunState
from collegium.domain.task import TaskState
from collegium.oversight.approvals import ApprovalPolicy
from collegium.oversight.asking import AskPolicy
from collegium.oversight.limits import AttemptLimits
from collegium.ports import Clock, Embedder, Journal, Model, Receipt, Scorer
from collegium.runtime import history
from collegium.runtime.agenda import Proposal
from collegium.runtime.asks import Asks
from collegium.runtime.board import Board
from collegium.runtime.caller import caller_of
from collegium.runtime.funding import MAX_WAIT_S, WAIT_S, Funding
from collegium.runtime.gate import Gate
from collegium.runtime.ledger_reader import LedgerReader
from collegium.runtime.pins import granted
from collegium.runtime.purse import Purse
from collegium.runtime.questions import Stop, asked, ended_writes, verdicts
from collegium.runtime.room import Room
from collegium.runtime.router import Route
from collegium.runtime.scheduler import Scheduler
from collegium.runtime.setback import done_by_others, setback_of
from collegium.runtime.stops import Stopped, Switch
from collegium.runtime.work_folder import followed
from collegium.tools import ledger as books
from collegium.tools.context import ToolContext
from collegium.tools.toolbox import Toolbox


class Attempt:
    """One attempt. Everything it appends carries its fence: once it was taken over, it can change nothing more."""

    def __init__(
        self,
        state: RunState,
        task: TaskState,
        *,
        worker: str,
        scheduler: Scheduler,
        journal: Journal,
        clock: Clock,
        gate: Gate,
        approvals: ApprovalPolicy | None = None,
        funding: Funding | None = None,
    ) -> None:
        self.run = state.id
        self.tenant = state.tenant
        self.task = task.task
        self.number = task.attempt
        self.fence = Fence(task=task.task.id, attempt=task.attempt)
        self.purse = Purse(state, task, funding=funding, clock=clock)
        self.agent: str | None = None
        self.switch: Switch | None = None
        self.worker = worker
        self.approvals = approvals or ApprovalPolicy()
        self.lapsed_at = task.lapsed_at
        self._gate = gate
        self.gaps = gate.gaps()
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._scheduler = scheduler
        self._journal = journal
        self._clock = clock
        self._is_fork = state.forked is not None
        self._ledger = LedgerReader(journal, self.run, is_fork=self._is_fork)
        self._recorded: Receipt | None = None
        self._has_begun = False
        self._desk: Desk | None = None
        self.asks: Asks
        self.board: Board

    @property
    def limits(self) -> AttemptLimits:
        """What it may still spend."""
        return self.purse.limits

    def record(self, *bodies: b.Body) -> Receipt:
        """Orders recording events in the attempt's name."""
        self._recorded = self._scheduler.record(self.run, self.tenant, bodies, fence=self.fence)
        return self._recorded

    async def admit(self, *, tool: str | None = None) -> None:
        """Returns when a call may be sent; raises ``Fenced`` once the attempt was taken over."""
        await self._gate.admit(self, tool=tool)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Inside it a write is under way; an agent carries them out one after the other."""
        self._quiet.clear()
        try:
            yield
        finally:
            self._quiet.set()

    @property
    def is_writing(self) -> bool:
        """Whether a write is under way."""
        return not self._quiet.is_set()

    async def quiet(self) -> None:
        """Returns when no write is under way."""
        await self._quiet.wait()

    async def ledger(self) -> books.Ledger:
        """The calls of the whole run so far."""
        return await self._ledger.read()

    def weighing(self, tool: str, arguments: str) -> AbstractAsyncContextManager[None]:
        """Inside it no other task looks up the same call; another process's may, and comes second or first."""
        return self._gate.weighing(self, tool, arguments)

    async def has_others(self) -> bool:
        """Whether other tasks of the run may be at work before this one ends."""
        return sum(not t.is_settled for t in (await self._state()).tasks.values()) > 1

    async def start(self, route: Route, model: str, *, is_fresh: bool = False) -> RunState | None:
        """Takes the attempt, durably; None when somebody else has, or it is no longer wanted.

        ``is_fresh``: another agent or model than before begins afresh.
        """
        self.agent = route.agent.name
        try:
            allotment = (await self.purse.open(route.agent)).allotment
        except LimitReached as error:
            await self._without_means(error)
            return None
        started = b.TaskStarted(
            worker=self.worker,
            agent=route.agent.name,
            agent_version=digest(route.agent),
            model=model,
            is_fresh=is_fresh,
        )
        routed = b.TaskRouted(agent=route.agent.name, reason=route.reason, candidates=route.candidates)
        decisions = [self._decision(routed), self._decision(started)]
        if allotment.is_capped:
            # One reservation covers all calls of the attempt, so it is durable before the first of them.
            reserved = b.LimitReserved(reservation=f"{self.task.id}/{self.number}", allotment=allotment)
            decisions.append(self._decision(reserved))
        is_ours = False

        def proposal(state: RunState) -> Sequence[Decision]:
            nonlocal is_ours
            task = state.tasks[self.task.id]
            is_ours = task.status == "ready" and task.attempt == self.number and state.cancel is None
            return decisions if is_ours else ()

        try:
            state = await self._scheduler.propose(self.run, proposal, fence=self.fence)
        except Fenced:
            return None
        self._has_begun = is_ours
        return state if is_ours else None

    async def past(self) -> Conversation:
        """What earlier attempts of the task have made durable, those of a fork's parents included."""
        talk = Conversation()
        if self.number == 1 and not self._is_fork:
            return talk
        async for events in history.past(self._journal, self.run):
            talk = converse(events, self.task.id, talk)
        return talk

    async def perform(
        self,
        state: RunState,
        agent: Agent,
        model: Model,
        *,
        room: Room,
        roster: Roster,
        toolbox: Toolbox,
        scorer: Scorer,
        embedder: Embedder | None,
        earlier: Earlier | None,
        ask_policy: AskPolicy,
    ) -> tuple[TaskResult, Judgement | None]:
        """Lets the agent work. Raises ``CollegiumError`` for whatever stops it."""
        folder = followed(room.workspace, self.ledger)
        self.asks = Asks(self, state, capabilities=roster.capabilities, policy=ask_policy)
        self.board = Board(self._journal, self._scheduler, state, self.task.id, agent=agent.name, roster=roster)
        world = ToolContext(
            tenant=self.tenant, run=self.run, task=self.task.id, key=None,
            retriever=room.knowledge, workspace=folder, board=self.board,
        )  # fmt: skip
        past = await self.past()
        # Whoever goes on with a conversation has seen what it did; whoever begins afresh has to be told.
        is_told = bool(past.begun or state.replans)
        talk = Talk(
            past,
            model=model,
            limits=self.limits,
            recorder=self,
            toolbox=toolbox,
            context=lambda key: replace(world, key=key),
            clock=self._clock,
        )
        desk = Desk(
            agent=agent,
            # An answer to a colleague is no answer to the user: it need not fit the schema of that.
            goal=state.goal if state.tasks[self.task.id].asked is None else replace(state.goal, output_schema=None),
            task=self.task,
            inputs={d: r for d in self.task.depends_on if (r := state.tasks[d].result) is not None},
            capabilities=roster.capabilities,
            tools=granted(agent, state, self.task.tools, toolbox),
            talk=talk,
            retriever=room.knowledge,
            workspace=folder,
            scorer=scorer,
            embedder=embedder,
            clock=self._clock,
            # What is decided together with the start comes after it, and is heard on the way.
            said=state.said[: state.tasks[self.task.id].heard],
            hear=self._said,
            approvals=self.approvals,
            verdicts=verdicts(state, self.task.id),
            earlier=earlier,
            skipped=room.skipped,
            done=done_by_others(await self.ledger(), self.task.id) if is_told else (),
            setback=setback_of(state, self.task.id),
        )
        self._desk = desk
        return await perform(desk, self._judged)

    def end_calls(self, tool: str) -> None:
        """Ends the calls of a tool that are under way."""
        if self._desk is not None:
            self._desk.talk.end_calls(tool)

    async def succeed(self, result: TaskResult, judgement: Judgement | None) -> None:
        """Settles the task with its result; it counts as limited when a call it wanted was one too many."""
        if self.limits.refused is not None:
            await self._settle_limited(self.limits.refused.message, result)
            return
        settled = b.TaskSettled(outcome="succeeded", result=result, usage=self.limits.spent)
        judged = [] if judgement is None else [self._decision(b.TaskJudged(judgement=judgement))]
        await self.close([*judged, self._decision(settled)])

    async def fail(self, error: CollegiumError, *, retry_in_s: float | None) -> None:
        """Parks the task for another try, asks a person where nobody can know what happened, else settles it.

        Args:
            error: What stopped the attempt.
            retry_in_s: When the task is tried again, None when it has failed for good; see ``failure.next_try``.
        """
        usage = self.limits.spent
        if isinstance(error, Stop):
            await self._ask(error)
        elif isinstance(error, Stopped):
            await self.park_stopped(error.message)
        elif isinstance(error, LimitReached) and await self.purse.may_have_more(await self._state(), error):
            # The next attempt goes on with more out of the accounts.
            await self._wait(error, 0.0)
        elif retry_in_s is not None:
            wake_at = self._clock.now() + timedelta(seconds=retry_in_s)
            parked = b.TaskParked(reason="retry", wake_at=wake_at, error=error.code, detail=error.message, usage=usage)
            # Who goes on with the conversation settles what is open in it; somebody else cannot.
            told = [] if error.retryable else [self._decision(u) for u in await self._ended_writes()]
            await self.close([*told, self._decision(parked)])
        elif isinstance(error, LimitReached):
            await self.settle_failed(error.code, await self.purse.explained(error))
        else:
            await self.settle_failed(error.code, error.message)

    async def settle_failed(self, code: str, reason: str) -> None:
        """Settles the task as failed; a reached limit is recorded as well. What it has written by then is kept."""
        if code == LimitReached.code:
            await self._settle_limited(reason, await self._salvage())
        else:
            await self._settle(code, reason, await self._salvage() if code == "cancelled" else None)

    async def _settle_limited(self, reason: str, result: TaskResult | None) -> None:
        self.record(b.LimitExceeded(limit="task", detail=reason))
        await self._settle(LimitReached.code, reason, result)

    async def _settle(self, code: str, reason: str, result: TaskResult | None) -> None:
        told = [self._decision(u) for u in await self._ended_writes()]
        settled = b.TaskSettled(outcome="failed", error=code, reason=reason, result=result, usage=self.limits.spent)
        await self.close([*told, self._decision(settled)])

    async def _salvage(self) -> TaskResult | None:
        return None if self._desk is None else await salvage(self._desk)

    async def _without_means(self, error: LimitReached) -> None:
        """Closes an attempt that cannot start: what its agent may take is used up, or held by others for now."""
        if error.fields.get("is_held"):
            await self._wait(error, min(WAIT_S * self.number, MAX_WAIT_S))
        else:
            await self._settle_limited(error.message, None)

    async def _wait(self, error: LimitReached, seconds: float) -> None:
        wake_at, usage = self._clock.now() + timedelta(seconds=seconds), self.limits.spent
        parked = b.TaskParked(
            reason="delay", wake_at=wake_at, error=self.purse.lack(error), detail=error.message, usage=usage
        )
        await self.close([self._decision(parked)])

    async def _state(self) -> RunState:
        return await self._scheduler.load(self.run)

    async def park_stopped(self, detail: str) -> None:
        """Parks the task until what was stopped is started again."""
        parked = b.TaskParked(reason="stopped", detail=detail, usage=self.limits.spent)
        await self.close([self._decision(parked)])
        await self._gate.go_on(self)

    async def _ended_writes(self) -> list[b.ToolOutcomeUnknown]:
        """Writes that were ended half way and may have happened: nobody may learn of it only from the far side."""
        if self._recorded is not None:
            with suppress(Fenced):
                await self._recorded.durable()  # a result that is ordered is a result: the ledger must have it
        return [body for _, body in ended_writes(await self.ledger(), [self.task.id])]

    async def park_pinned(self, detail: str) -> None:
        """Parks the task, not started, until somebody resumes the run: what it needs is gone."""
        await self.close([self._decision(b.TaskParked(reason="pinned", detail=detail))])

    async def drain(self, *, goes_on: bool = False) -> None:
        """Parks the task until somebody resumes the run, or for another worker to take at once where it ``goes_on``."""
        detail = (
            "its worker was stopped; another goes on with it" if goes_on else "stopped; runs resume goes on with it"
        )
        wake_at = self._clock.now() if goes_on else None
        parked = b.TaskParked(reason="drain", wake_at=wake_at, detail=detail, usage=self.limits.spent)
        await self.close([self._decision(parked)])

    async def _judged(self, judgement: Judgement) -> None:
        await self._scheduler.propose(
            self.run, lambda _: [self._decision(b.TaskJudged(judgement=judgement))], fence=self.fence
        )

    async def _ask(self, stop: Stop) -> None:
        """Parks the task together with what a person is asked, so that neither is ever without the other."""
        caller = await caller_of(stop, self, journal=self._journal, gate=self._gate)
        now, usage = self._clock.now(), self.limits.spent

        def proposal(state: RunState) -> Sequence[Decision]:
            bodies = asked(state, stop, usage=usage, now=now, caller=caller)
            return [self._decision(x) for x in bodies]

        await self.close(proposal)

    async def _said(self) -> tuple[str, ...]:
        """What the user has added by now; what another process took in is known within a second."""

        async def said() -> tuple[str, ...]:
            return (await self._state()).said

        return await self._gate.heard(self, said)

    async def close(self, decisions: Sequence[Decision] | Proposal) -> bool:
        """Whether the attempt is closed now; not where nothing was proposed."""
        proposal = decisions if callable(decisions) else lambda _: decisions
        closed = self._closed(proposal)
        # Whoever ends the work once the attempt is closed must not keep from the accounts what is theirs.
        return await (asyncio.shield(asyncio.create_task(closed)) if self.purse.is_drawn else closed)

    async def _closed(self, proposal: Proposal) -> bool:
        def waiting(state: RunState) -> Sequence[Decision]:
            task = state.tasks[self.task.id]
            return proposal(state) if (task.status, task.attempt) == ("ready", self.number) else ()

        # Nothing is ordered by an attempt that has not begun. So a store that fails to close it casts no doubt on what
        # is closed next: nobody else might ever look at it.
        wanted, fence = (proposal, self.fence) if self._has_begun else (waiting, None)
        try:
            state = await self._scheduler.propose(self.run, wanted, fence=fence)
        except Fenced:
            # Taken over: whoever has the task now decides on it.
            return True
        if (task := state.tasks[self.task.id]).status == "running" and task.attempt == self.number:
            return False
        await self.purse.close(self.limits.spent)
        return True

    def _decision(self, body: b.Body) -> Decision:
        return Decision(body=body, task=self.task.id, attempt=self.number)
