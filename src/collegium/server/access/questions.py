"""What runs ask people, as one principal may see and answer it."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

from collegium.app import Collegium
from collegium.domain.asking import run_of
from collegium.domain.chat import Json
from collegium.domain.errors import NotFound
from collegium.domain.plan import Plan
from collegium.domain.principal import Principal
from collegium.domain.run import Approval
from collegium.runtime.inbox import WORDS, YES_NO, Question
from collegium.server.access.deeds import noted
from collegium.server.access.page import Page, cursor, place
from collegium.server.access.reach import Reach

Status = Literal["open", "answered", "over"]


class ApprovalShown(msgspec.Struct, frozen=True, kw_only=True):
    """A question to a person; ``answers`` are the words that may be said, ``over`` is one that nobody waits for."""

    approval_id: str
    run_id: str
    kind: Literal["plan", "tool", "verdict", "outcome"]
    status: Status
    question: str
    answers: tuple[str, ...]
    goal: str
    asked_for_by: str
    requested_at: datetime
    expires_at: datetime | None = None
    default: str = "reject"
    assignee: str | None = None
    is_four_eyes: bool = False
    task: str | None = None
    tool: str | None = None
    arguments: Json | None = None
    answer: str | None = None
    answered_by: str | None = None
    answered_at: datetime | None = None
    reason: str = ""


class QuestionAccess:
    """The questions of the principal's tenant; those of others are not there (``NotFound``)."""

    def __init__(self, app: Collegium, principal: Principal) -> None:
        self._app = app
        self._principal = principal
        self._reach = Reach(app, principal)

    async def page(self, *, after: str | None = None, limit: int = 50) -> Page[Question]:
        """Open questions by id, the newest first. Raises ``UsageError`` for a cursor that is none."""
        self._principal.require("runs:read")
        behind = place("questions", after)
        found = sorted(
            await self._app.approvals(tenant=self._principal.tenant), key=lambda q: q.approval.id, reverse=True
        )
        left = [q for q in found if not behind or q.approval.id < str(behind[0])]
        if self._reach.projects is not None:
            left = [q for q in left if await self._reach.has_run(q.run)]
        shown = left[:limit]
        return Page(items=shown, next=cursor("questions", shown[-1].approval.id) if len(left) > limit else None)

    async def show(self, approval: str) -> ApprovalShown:
        """The question, open or not. Raises ``NotFound``."""
        self._principal.require("runs:read")
        run = run_of(approval)
        missing = NotFound(f"there is no question {approval[:100]}", approval=approval[:100])
        if run is None or not await self._reach.has_run(run):
            raise missing
        try:
            state = await self._app.state(run, tenant=self._principal.tenant)
        except NotFound as error:
            raise missing from error
        found = state.approvals.get(approval)
        if found is None:
            raise missing
        is_over = state.finished is not None or state.cancel is not None
        return shown_of(found, run=run, goal=state.goal.text, principal=state.goal.principal, is_over=is_over)

    async def answer(self, approval: str, answer: str, *, reason: str = "", plan: Plan | None = None) -> str:
        """Answers a question, once and for all; the id of the run that asked. See ``Inbox.answer``."""
        self._principal.require("approvals:decide")
        if (asks := run_of(approval)) is not None and not await self._reach.has_run(asks):
            raise NotFound(f"there is no question {approval[:100]}", approval=approval[:100])
        run = await self._app.answer(
            approval, answer, principal=self._principal.id, reason=reason, plan=plan, tenant=self._principal.tenant
        )
        await noted(
            self._app, self._principal, "approvals.answered", approval, rule="approvals:decide", reason=reason,
            details={"answer": answer, "run": run.id},
        )  # fmt: skip
        return run.id


def shown_of(found: Approval, *, run: str, goal: str, principal: str, is_over: bool = False) -> ApprovalShown:
    """The question as it is shown."""
    asked, given = found.request, found.answer
    return ApprovalShown(
        approval_id=found.id,
        run_id=run,
        kind=asked.kind,
        status="answered" if given is not None else "over" if is_over else "open",
        question=asked.question,
        answers=WORDS.get(asked.kind, YES_NO),
        goal=goal,
        asked_for_by=principal,
        requested_at=found.requested_at,
        expires_at=asked.expires_at,
        default=asked.default,
        assignee=asked.assignee,
        is_four_eyes=asked.is_four_eyes,
        task=found.task,
        tool=asked.tool,
        arguments=asked.arguments,
        answer=None if given is None else given.answer,
        answered_by=None if given is None else given.principal,
        answered_at=found.answered_at,
        reason="" if given is None else given.reason,
    )
