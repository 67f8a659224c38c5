"""``/v1/approvals``: what runs ask people, and the answers."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from collegium.server.access.page import MOST, Page
from collegium.server.access.questions import ApprovalShown, shown_of
from collegium.server.caller import Caller
from collegium.server.rest.answer import answer, gives, gives_page
from collegium.server.rest.openapi import Lean
from collegium.server.rest.runs import PlanGiven

ROUTER: Final = APIRouter(prefix="/v1/approvals", tags=["approvals"])
Approval = Annotated[str, Path(min_length=1, max_length=100)]


class ApprovalAnswer(BaseModel):
    """An answer, and why."""

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)
    answer: Annotated[
        Literal["approve", "reject", "done", "not-done", "retry"],
        Field(description="`approve` or `reject`; about an unknown outcome `done`, `not-done` or `retry`."),
    ]
    reason: Annotated[str, Field(max_length=2_000)] = ""
    plan: PlanGiven = None


@ROUTER.get("", responses=gives_page(ApprovalShown, "A page of open questions."), response_class=Response)
async def list_approvals(
    caller: Caller,
    after: Annotated[str | None, Query(max_length=500, description="`next` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=MOST)] = 50,
) -> Response:
    """List the questions that wait for an answer, the newest first."""
    page = await caller.questions.page(after=after, limit=limit)
    items = [shown_of(q.approval, run=q.run, goal=q.goal, principal=q.principal) for q in page.items]
    return answer(Page(items=items, next=page.next))


@ROUTER.get("/{approval}", responses=gives(ApprovalShown, "The question."), response_class=Response)
async def show_approval(approval: Approval, caller: Caller) -> Response:
    """Show a question, and its answer once it has one."""
    return answer(await caller.questions.show(approval))


@ROUTER.post("/{approval}/answer", responses=gives(ApprovalShown, "Answered."), response_class=Response)
async def answer_approval(approval: Approval, wanted: ApprovalAnswer, caller: Caller) -> Response:
    """Answer a question, once and for all: whoever is first holds.

    With the approval of a plan another plan may be given, which is followed instead. Where four eyes are asked for,
    whoever asked for the run cannot answer.
    """
    await caller.questions.answer(approval, wanted.answer, reason=wanted.reason, plan=wanted.plan)
    return answer(await caller.questions.show(approval))


LEAN: Final[tuple[Lean, ...]] = ()
TYPES: Final = (ApprovalShown,)
