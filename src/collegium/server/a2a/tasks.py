"""Runs as tasks of A2A: the journal is the store of tasks, and there is no other.

Source: Agent2Agent Protocol 1.0, sections "Task" and "Life of a Task".
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from a2a.types import Artifact, Message, Part, Role, Task, TaskState, TaskStatus

from collegium.domain.head import FINISHED, LIVE
from collegium.domain.report import report
from collegium.domain.run import Approval, RunState
from collegium.runtime.inbox import WORDS, YES_NO
from collegium.server.a2a.wire import data, plain

ANSWER: Final = "answer"
TERMINAL: Final = frozenset({
    TaskState.TASK_STATE_COMPLETED, TaskState.TASK_STATE_FAILED, TaskState.TASK_STATE_CANCELED,
})  # fmt: skip
_ENDS: Final = {
    "succeeded": TaskState.TASK_STATE_COMPLETED,
    "partial": TaskState.TASK_STATE_COMPLETED,
    "failed": TaskState.TASK_STATE_FAILED,
    "limited": TaskState.TASK_STATE_FAILED,
    "cancelled": TaskState.TASK_STATE_CANCELED,
}
_RUNNING: Final = frozenset({"running", "waiting", "queued"})
STATUSES: Final[dict[int, frozenset[str]]] = {
    TaskState.TASK_STATE_UNSPECIFIED: frozenset(),
    TaskState.TASK_STATE_SUBMITTED: frozenset({"queued"}),
    TaskState.TASK_STATE_WORKING: LIVE,
    TaskState.TASK_STATE_INPUT_REQUIRED: _RUNNING,
    TaskState.TASK_STATE_COMPLETED: frozenset({"succeeded", "partial"}),
    TaskState.TASK_STATE_FAILED: frozenset({"failed", "limited"}),
    TaskState.TASK_STATE_CANCELED: frozenset({"cancelled"}),
}
"""Which runs may be in a state of tasks; none may be in one that is not here."""


def task_state(state: RunState) -> TaskState:
    """The state of the task that the run is."""
    if state.status in FINISHED:
        return _ENDS[state.status]
    if state.cancel is None and state.open_approvals:
        return TaskState.TASK_STATE_INPUT_REQUIRED
    return TaskState.TASK_STATE_SUBMITTED if state.status == "queued" else TaskState.TASK_STATE_WORKING


def task(state: RunState, context: str, *, history: int | None = None, has_artifacts: bool = True) -> Task:
    """The run as a task.

    Args:
        state: The run.
        context: The name of its conversation.
        history: So many of the latest messages; None for all.
        has_artifacts: Whether the answer is in it.
    """
    told = messages(state, context)
    if history is not None:
        told = told[len(told) - history :] if history > 0 else []
    made = Task(id=state.id, context_id=context, status=status(state, context), history=told)
    if has_artifacts and (answer := artifact(state)) is not None:
        made.artifacts.append(answer)
    made.metadata.update({"collegium": _facts(state)})
    return made


def status(state: RunState, context: str) -> TaskStatus:
    """Where the run stands, with what it asks or why it failed."""
    made = TaskStatus(state=task_state(state))
    made.timestamp.FromDatetime(_since(state))
    if (said := _said(state, context)) is not None:
        made.message.CopyFrom(said)
    return made


def messages(state: RunState, context: str) -> list[Message]:
    """What the user has said: the goal, and what was added to it."""
    texts = [state.goal.text, *state.said]
    return [
        Message(
            message_id=f"{state.id}-said-{number}",
            context_id=context,
            task_id=state.id,
            role=Role.ROLE_USER,
            parts=[Part(text=text)],
        )
        for number, text in enumerate(texts)
    ]


def artifact(state: RunState) -> Artifact | None:
    """The answer, with the places it rests on; None where there is none."""
    made = report(state, state.finished_at or state.submitted_at)
    if made.answer is None:
        return None
    parts = [Part(text=made.answer.text, media_type="text/markdown")]
    if made.answer.data is not None:
        parts.append(Part(data=data(made.answer.data), media_type="application/json"))
    found = Artifact(artifact_id=ANSWER, name="Answer", parts=parts)
    found.metadata.update({"citations": plain(made.answer.citations)})
    return found


def said(state: RunState, context: str, text: str, *, number: int) -> Message:
    """Something that the team says of ``state``; ``number`` tells such messages apart."""
    return Message(
        message_id=f"{state.id}-told-{number}",
        context_id=context,
        task_id=state.id,
        role=Role.ROLE_AGENT,
        parts=[Part(text=text)],
    )


def _said(state: RunState, context: str) -> Message | None:
    number = state.deciding_seq
    if state.finished is not None:
        reason = state.finished.reason or state.finished.error or ""
        return said(state, context, reason, number=number) if reason else None
    if not state.open_approvals or state.cancel is not None:
        return None
    asked = state.open_approvals
    message = said(state, context, "\n".join(one.request.question for one in asked), number=number)
    message.parts.extend(Part(data=data(_question(one)), media_type="application/json") for one in asked)
    return message


def _question(asked: Approval) -> dict[str, Any]:
    """What is asked, as a machine reads it: it is answered with a data part ``{"approval": ..., "answer": ...}``."""
    request = asked.request
    return {
        "approval": asked.id,
        "kind": request.kind,
        "question": request.question,
        "tool": request.tool,
        "arguments": request.arguments,
        "answers": WORDS.get(request.kind, YES_NO),
        "expires_at": request.expires_at,
    }


def _facts(state: RunState) -> dict[str, Any]:
    made = report(state, state.finished_at or state.submitted_at)
    facts: dict[str, Any] = plain(
        {"status": made.status, "missing": made.missing, "error": made.error, "usage": made.usage}
    )
    return facts


def _since(state: RunState) -> datetime:
    """Since when the run stands where it does, as far as its state says."""
    moments = [state.submitted_at, *(a.requested_at for a in state.approvals.values())]
    moments += [a.answered_at for a in state.approvals.values() if a.answered_at is not None]
    moments += [m for t in state.tasks.values() for m in (t.started_at, t.settled_at) if m is not None]
    return state.finished_at or max(moments)
