"""An attempt: one worker's try at one task, from its start to its end in the journal."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from collegium.agents.calls import UnknownOutcome
from collegium.agents.desk import Desk, Earlier
from collegium.agents.perform import perform
from collegium.agents.roster import Roster, digest
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
from collegium.domain.tool import ToolDefinition
from collegium.oversight.limits import AttemptLimits
from collegium.ports import Clock, Embedder, Journal, Model, Receipt, Scorer
from collegium.runtime.room import Room
from collegium.runtime.router import Route
from collegium.runtime.scheduler import Scheduler
from collegium.tools import ledger as books
from collegium.tools.context import ToolContext
from collegium.tools.toolbox import Toolbox

FIRST_BACKOFF_S = 0.5
MAX_BACKOFF_S = 60.0


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
    ) -> None:
        self.run = state.id
        self.tenant = state.tenant
        self.task = task.task
        self.number = task.attempt
        self.fence = Fence(task=task.task.id, attempt=task.attempt)
        self.limits = AttemptLimits(task.allotment)
        self._allotment = task.allotment
        self._max_attempts = task.task.max_attempts
        self._worker = worker
        self._scheduler = scheduler
        self._journal = journal
        self._clock = clock
        self._ledger, self._folded_to = books.Ledger(), 0

    def record(self, *bodies: b.Body) -> Receipt:
        """Orders recording events in the attempt's name."""
        return self._scheduler.record(self.run, self.tenant, bodies, fence=self.fence)

    async def ledger(self) -> books.Ledger:
        """The calls of the whole run so far; each event is read once, however many writes the attempt makes."""
        while events := await self._journal.read(self.run, after := self._folded_to):
            if after == self._folded_to:  # nobody else has folded them meanwhile
                self._ledger, self._folded_to = books.fold(events, self._ledger), events[-1].seq
        return self._ledger

    async def start(self, route: Route, model: str) -> RunState | None:
        """Takes the attempt, durably; None when somebody else has, or it is no longer wanted."""
        started = b.TaskStarted(
            worker=self._worker, agent=route.agent.name, agent_version=digest(route.agent), model=model
        )
        decisions = [self._decision(b.TaskRouted(agent=route.agent.name, reason=route.reason)), self._decision(started)]
        if self._allotment.cost_usd is not None or self._allotment.tokens is not None:
            # One reservation covers all calls of the attempt, so it is durable before the first of them.
            reserved = b.LimitReserved(reservation=f"{self.task.id}/{self.number}", allotment=self._allotment)
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
        return state if is_ours else None

    async def past(self) -> Conversation:
        """What earlier attempts of the task have made durable."""
        if self.number == 1:
            return Conversation()
        talk, after = Conversation(), 0
        while True:
            events = await self._journal.read(self.run, after)
            if not events:
                return talk
            talk = converse(events, self.task.id, talk)
            after = events[-1].seq

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
    ) -> tuple[TaskResult, Judgement | None]:
        """Lets the agent work. Raises ``CollegiumError`` for whatever stops it."""

        def context(key: str | None) -> ToolContext:
            return ToolContext(
                tenant=self.tenant,
                run=self.run,
                task=self.task.id,
                key=key,
                retriever=room.knowledge,
                workspace=room.workspace,
            )

        talk = Talk(
            await self.past(),
            model=model,
            limits=self.limits,
            recorder=self,
            toolbox=toolbox,
            context=context,
            clock=self._clock,
        )
        desk = Desk(
            agent=agent,
            goal=state.goal,
            task=self.task,
            inputs={d: r for d in self.task.depends_on if (r := state.tasks[d].result) is not None},
            capabilities=roster.capabilities,
            tools=_granted(agent, state, self.task.tools, toolbox),
            talk=talk,
            retriever=room.knowledge,
            workspace=room.workspace,
            scorer=scorer,
            embedder=embedder,
            clock=self._clock,
            said=state.said,
            earlier=earlier,
            skipped=room.skipped,
        )
        return await perform(desk, self._judged)

    async def succeed(self, result: TaskResult, judgement: Judgement | None) -> None:
        """Settles the task with its result."""
        settled = b.TaskSettled(outcome="succeeded", result=result, usage=self.limits.spent)
        judged = [] if judgement is None else [self._decision(b.TaskJudged(judgement=judgement))]
        await self._close([*judged, self._decision(settled)])

    async def fail(self, error: CollegiumError, failures: int) -> None:
        """Parks the task for another try where that may help, asks a person where nobody can know, else settles it.

        Args:
            error: What stopped the attempt.
            failures: Attempts of the task that failed before this one.
        """
        usage = self.limits.spent
        if isinstance(error, UnknownOutcome):
            unknown = b.ToolOutcomeUnknown(key=error.intended.key, tool=error.intended.tool, detail=error.message)
            parked = b.TaskParked(reason="outcome_unknown", error=error.code, detail=error.message, usage=usage)
            await self._close([self._decision(unknown), self._decision(parked)])
        elif error.retryable and failures + 1 < self._max_attempts:
            delay = min(FIRST_BACKOFF_S * 2**failures, MAX_BACKOFF_S)
            wake_at = self._clock.now() + timedelta(seconds=delay)
            parked = b.TaskParked(reason="retry", wake_at=wake_at, error=error.code, detail=error.message, usage=usage)
            await self._close([self._decision(parked)])
        else:
            await self.settle_failed(error.code, error.message)

    async def settle_failed(self, code: str, reason: str) -> None:
        """Settles the task as failed; a reached limit is recorded as well."""
        if code == LimitReached.code:
            self.record(b.LimitExceeded(limit="task", detail=reason))
        # A write that was ended half way may have happened: nobody may learn of it only from the far side.
        unknown = [e for e in (await self.ledger()).open(self.task.id) if e.effect == "write"]
        for entry in unknown:
            reason += f"; {entry.tool} had been called and may or may not have happened (step {entry.step})"
        told = [
            self._decision(b.ToolOutcomeUnknown(key=e.key, tool=e.tool, detail="its call was ended from outside"))
            for e in unknown
        ]
        settled = b.TaskSettled(outcome="failed", error=code, reason=reason, usage=self.limits.spent)
        await self._close([*told, self._decision(settled)])

    async def drain(self) -> None:
        """Parks the task until somebody resumes the run."""
        await self._close(
            [
                self._decision(
                    b.TaskParked(reason="drain", detail="stopped; runs resume goes on with it", usage=self.limits.spent)
                )
            ]
        )

    async def _judged(self, judgement: Judgement) -> None:
        await self._scheduler.propose(
            self.run, lambda _: [self._decision(b.TaskJudged(judgement=judgement))], fence=self.fence
        )

    async def _close(self, decisions: Sequence[Decision]) -> None:
        try:
            await self._scheduler.propose(self.run, lambda _: decisions, fence=self.fence)
        except Fenced:
            # Taken over: whoever has the task now decides on it.
            return

    def _decision(self, body: b.Body) -> Decision:
        return Decision(body=body, task=self.task.id, attempt=self.number)


def _granted(agent: Agent, state: RunState, for_task: tuple[str, ...], toolbox: Toolbox) -> tuple[ToolDefinition, ...]:
    """What the agent may use for this task: its own tools, narrowed by the task's list where it has one."""
    own = toolbox.matching((*agent.tools, *state.goal.tools))
    return toolbox.granted(own & toolbox.matching(for_task) if for_task else own)
