"""What runs ask people, as one principal may see and answer it."""

from __future__ import annotations

from collegium.app import Collegium
from collegium.domain.principal import Principal
from collegium.runtime.inbox import Question
from collegium.server.access.deeds import noted
from collegium.server.access.page import Page, cursor, place


class QuestionAccess:
    """The open questions of the principal's tenant; those of others are not there (``NotFound``)."""

    def __init__(self, app: Collegium, principal: Principal) -> None:
        self._app = app
        self._principal = principal

    async def page(self, *, after: str | None = None, limit: int = 50) -> Page[Question]:
        """Open questions by id, the newest first. Raises ``UsageError`` for a cursor that is none."""
        self._principal.require("runs:read")
        behind = place("questions", after)
        found = sorted(
            await self._app.approvals(tenant=self._principal.tenant), key=lambda q: q.approval.id, reverse=True
        )
        left = [q for q in found if behind is None or q.approval.id < str(behind[0])]
        shown = left[:limit]
        return Page(items=shown, next=cursor("questions", shown[-1].approval.id) if len(left) > limit else None)

    async def answer(self, approval: str, answer: str, *, reason: str = "") -> str:
        """Answers a question, once and for all; the id of the run that asked. See ``Inbox.answer``."""
        self._principal.require("approvals:decide")
        run = await self._app.answer(
            approval, answer, principal=self._principal.id, reason=reason, tenant=self._principal.tenant
        )
        await noted(
            self._app, self._principal, "approvals.answered", approval, rule="approvals:decide", reason=reason,
            details={"answer": answer, "run": run.id},
        )  # fmt: skip
        return run.id
