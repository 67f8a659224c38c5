"""Questions to people, as decisions: their ids, plans that are reviewed, answers that did not come in time."""

from __future__ import annotations

import hashlib
import re
from datetime import datetime

import msgspec

from collegium.domain import body as b
from collegium.domain.decision import Decision
from collegium.domain.plan import Plan
from collegium.domain.run import RunState

NOBODY = "collegium"
"""The principal of an answer that nobody gave: the default, when the time was over."""
_ID = re.compile(r"apr_([0-9a-f]{34})_\d+\Z")


def approval_id(state: RunState, count: int = 1) -> str:
    """The id of the run's next question (``count`` of 1), or of one further on; it carries the run's id."""
    return f"apr_{state.id.removeprefix('run_')}_{len(state.approvals) + count}"


def run_of(approval: str) -> str | None:
    """The run that asked, from the id of the question; None for what is no such id."""
    match = _ID.match(approval)
    return f"run_{match[1]}" if match else None


def plan_sha256(plan: Plan) -> str:
    """What the approval of a plan is bound to."""
    return hashlib.sha256(msgspec.json.encode(plan, order="deterministic")).hexdigest()


def ask_for_plan(state: RunState, plan: Plan) -> Decision:
    """The question whether ``plan`` is to be followed."""
    count = len(plan.tasks)
    question = f"Follow this plan of {count} task{'' if count == 1 else 's'}?"
    return Decision(
        body=b.ApprovalRequested(
            approval=approval_id(state),
            kind="plan",
            question=question,
            arguments_sha256=plan_sha256(plan),
            arguments=msgspec.json.decode(msgspec.json.encode(plan)),
        )
    )


def answer_on_plan(state: RunState, plan: Plan) -> b.ApprovalAnswered | b.ApprovalRequested | None:
    """The answer on exactly this plan, the open question about it, or None when nobody was asked yet."""
    sha256 = plan_sha256(plan)
    for approval in state.approvals.values():
        if approval.request.kind == "plan" and approval.request.arguments_sha256 == sha256:
            return approval.answer or approval.request
    return None


def expired(state: RunState, now: datetime) -> tuple[Decision, ...]:
    """The default answers to questions whose time is over."""
    return tuple(
        Decision(
            body=b.ApprovalAnswered(
                approval=a.id,
                answer=a.request.default,
                principal=NOBODY,
                reason="nobody answered in time",
                is_default=True,
            ),
            task=a.task,
        )
        for a in state.open_approvals
        if a.request.expires_at is not None and a.request.expires_at <= now
    )
