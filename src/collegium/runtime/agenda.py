"""The agenda: what is appended to a run next, drawn up on a preview of its state, with the means for new attempts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import msgspec

from collegium.domain import body as b
from collegium.domain.decide import decide, wake_at
from collegium.domain.decision import Decision
from collegium.domain.errors import LimitReached
from collegium.domain.event import Event, type_of
from collegium.domain.head import Fence, HeadChange
from collegium.domain.run import RunState, apply
from collegium.oversight.approvals import ApprovalPolicy
from collegium.runtime.funding import WAIT_S, Funding

Proposal = Callable[[RunState], Sequence[Decision]]
"""What somebody wants to append, given the state it would be appended to; empty when it no longer applies."""


class Agenda:
    """Decisions that follow from a state. Nothing is decided unless all of it is appended with ``expected``.

    Attributes:
        decisions: What is to be appended, in order.
        fences: The attempts on whose behalf that is.
        preview: The state as it would be.
        is_cut: More is to be decided, but only after this was appended and what was drawn on before was settled.
    """

    def __init__(
        self, state: RunState, now: datetime, funding: Funding | None, approvals: ApprovalPolicy | None = None
    ) -> None:
        self.decisions: list[Decision] = []
        self.fences: list[Fence] = []
        self.preview = state
        self.is_cut = False
        self._is_held = False
        self._now = now
        self._funding = funding
        self._approvals = approvals or ApprovalPolicy()

    async def take(self, proposal: Proposal, fence: Fence | None) -> bool:
        """Whether ``proposal`` was heard; if not, it is to be asked again after the append."""
        while (wanted := await self._funded(proposal(self.preview))) is None:
            if self.is_cut:
                return False
        if wanted and fence is not None:
            self.fences.append(fence)
        self.add(wanted)
        return True

    async def conclude(self) -> None:
        """Adds what follows by itself, until nothing is left to decide."""
        while not self.is_cut and (more := self._addressed(decide(self.preview, self._now))):
            funded = await self._funded(more)
            if funded is None:
                continue
            if not funded:
                return
            self.add(funded)

    @property
    def head(self) -> HeadChange:
        """What becomes of the run's head."""
        wake = wake_at(self.preview, self._now)
        if (self._is_held or self.is_cut) and self.preview.finished is None:
            again = self._now + timedelta(seconds=WAIT_S)
            wake = again if wake is None else min(wake, again)
        return HeadChange(status=self.preview.status, wake_at=wake, project=self.preview.goal.project)

    @property
    def is_giving_back(self) -> bool:
        """Whether something that was drawn from accounts is over with this."""
        return any(isinstance(d.body, (b.RunReturned, b.RunFinished)) for d in self.decisions)

    def _addressed(self, decisions: Sequence[Decision]) -> Sequence[Decision]:
        """``decisions``; questions among them, about plans, with who may answer and until when."""
        return [
            msgspec.structs.replace(d, body=self._approvals.addressed(d.body, self._now))
            if isinstance(d.body, b.ApprovalRequested)
            else d
            for d in decisions
        ]

    async def _funded(self, wanted: Sequence[Decision]) -> Sequence[Decision] | None:
        """``wanted``, as far as there are means for its attempts; None when it is to be asked for again."""
        if self._funding is None:
            return wanted
        funded = await self._funding.fund(self.preview, wanted)
        match funded.verdict:
            case "enough":
                return wanted
            case "more":
                self.add(funded.decisions)
                self.is_cut = funded.is_settled_first
                return None
            case "hold":
                self._is_held = True
                return [d for d in wanted if not isinstance(d.body, b.TaskReady)]
            case "none":
                refused = b.TaskSettled(outcome="failed", error=LimitReached.code, reason=funded.reason)
                self.add([Decision(body=refused, task=funded.task)])
                return None

    @property
    def is_over(self) -> bool:
        """Whether nothing is begun any more: somebody has cancelled the run, or its time is up."""
        is_ended = self.preview.finished is not None
        return not is_ended and (self.preview.cancel is not None or self.preview.is_overdue(self._now))

    def add(self, decisions: Sequence[Decision]) -> None:
        """Puts ``decisions`` behind those there are."""
        self.decisions += decisions
        for decision in decisions:
            event = Event(
                id="",
                tenant=self.preview.tenant,
                run=self.preview.id,
                seq=self.preview.seq + 1,
                type=type_of(decision.body),
                v=1,
                at=self._now,
                body=decision.body,
                mac="",
                task=decision.task,
                attempt=decision.attempt,
            )
            self.preview = apply(self.preview, event)
