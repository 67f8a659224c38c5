"""What is known of one task of a run, and how events move it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Literal

import msgspec

from collegium.domain import body as b
from collegium.domain.body import Body
from collegium.domain.candidate import Candidate
from collegium.domain.event import Event
from collegium.domain.plan import Task
from collegium.domain.policy import Judgement
from collegium.domain.result import TaskResult
from collegium.domain.usage import Allotment, Usage

TaskStatus = Literal["pending", "ready", "running", "parked", "succeeded", "failed", "skipped", "quarantined"]
SETTLED: frozenset[str] = frozenset({"succeeded", "failed", "skipped", "quarantined"})
STOPS: frozenset[str] = frozenset({"drain", "stopped", "pinned"})
"""Reasons of parks that end when somebody resumes the run."""
OPEN: frozenset[str] = frozenset({"ready", "running"})


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """Where a task comes from that a colleague asked for: call ``call`` of step ``step`` of the task ``by``.

    ``allotment`` is the most that an attempt at it takes, whoever works on it.
    """

    by: str
    step: int
    call: int
    allotment: Allotment = Allotment()


class TaskState(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one task.

    Attributes:
        asked: Set where it is no task of a plan, but a question to a colleague.
        attempt: The newest attempt, 0 before the first.
        failures: Attempts that ended in an error and are to be tried again.
        agent: Who works on it, or did last. ``model``: the same.
        route: Why this agent. ``candidates``: the figures of all that were looked at.
        tried: Agents of the attempts that failed, one entry for each.
        lapsed_at: When the newest attempt was found lost; open calls are judged by it.
        barren_lapses: Lapses in a row without one new durable event of the attempt.
        wake_at: Parked: when it goes on by itself. Ready: not to be published before.
        heard: How many things the user had added when the newest attempt began.
        usage: What all closed attempts took.
    """

    task: Task
    asked: Asked | None = None
    status: TaskStatus = "pending"
    attempt: int = 0
    allotment: Allotment = Allotment()
    is_alone: bool = False
    worker: str | None = None
    agent: str | None = None
    model: str | None = None
    route: str = ""
    candidates: tuple[Candidate, ...] = ()
    failures: int = 0
    tried: tuple[str, ...] = ()
    lapsed_at: datetime | None = None
    barren_lapses: int = 0
    park: str | None = None
    wake_at: datetime | None = None
    error: str | None = None
    reason: str = ""
    judgement: Judgement | None = None
    result: TaskResult | None = None
    heard: int = 0
    usage: Usage = Usage()
    ready_at: datetime | None = None
    started_at: datetime | None = None
    settled_at: datetime | None = None

    @property
    def is_settled(self) -> bool:
        """Whether it has its outcome."""
        return self.status in SETTLED

    @property
    def is_open(self) -> bool:
        """Whether its newest attempt may still append."""
        return self.status in OPEN


def moves_task(body: Body) -> bool:
    """Whether an event with this body moves the task of its envelope."""
    return type(body) in _ON_TASK


def apply_to_task(task: TaskState, event: Event) -> TaskState:
    """The task after ``event``, which has to be one that moves tasks."""
    return _ON_TASK[type(event.body)](task, event, event.body)


def _ready(task: TaskState, event: Event, body: Any) -> TaskState:
    return msgspec.structs.replace(
        task,
        status="ready",
        attempt=event.attempt or 0,
        allotment=body.allotment,
        is_alone=body.is_alone,
        worker=None,
        park=None,
        wake_at=body.not_before,
        ready_at=event.at,
    )


def _routed(task: TaskState, event: Event, body: Any) -> TaskState:
    return msgspec.structs.replace(task, agent=body.agent, route=body.reason, candidates=body.candidates)


def _started(task: TaskState, event: Event, body: Any) -> TaskState:
    return msgspec.structs.replace(
        task,
        status="running",
        worker=body.worker,
        agent=body.agent,
        model=body.model,
        wake_at=None,
        started_at=task.started_at or event.at,
    )


def _parked(task: TaskState, event: Event, body: Any) -> TaskState:
    return msgspec.structs.replace(
        task,
        status="parked",
        park=body.reason,
        wake_at=body.wake_at,
        worker=None,
        failures=task.failures + (body.reason == "retry"),
        tried=(*task.tried, task.agent) if body.reason == "retry" and task.agent else task.tried,
        barren_lapses=task.barren_lapses if body.reason == "drain" else 0,
        error=body.error,
        reason=body.detail,
        usage=task.usage + body.usage,
    )


def _lapsed(task: TaskState, event: Event, body: Any) -> TaskState:
    return msgspec.structs.replace(
        task,
        status="parked",
        park="lapsed",
        wake_at=event.at,
        lapsed_at=event.at,
        worker=None,
        barren_lapses=0 if body.has_progressed else task.barren_lapses + 1,
        usage=task.usage + body.usage,
    )


def _judged(task: TaskState, event: Event, body: Any) -> TaskState:
    return msgspec.structs.replace(task, judgement=body.judgement)


def _settled(task: TaskState, event: Event, body: Any) -> TaskState:
    return msgspec.structs.replace(
        task,
        status=body.outcome,
        worker=None,
        park=None,
        wake_at=None,
        result=body.result,
        error=body.error,
        reason=body.reason,
        usage=task.usage + body.usage,
        settled_at=event.at,
    )


def _quarantined(task: TaskState, event: Event, body: Any) -> TaskState:
    return msgspec.structs.replace(
        task, status="quarantined", error="quarantined", reason=body.reason, worker=None, settled_at=event.at
    )


_ON_TASK: dict[type[Body], Callable[[TaskState, Event, Any], TaskState]] = {
    b.TaskReady: _ready,
    b.TaskRouted: _routed,
    b.TaskStarted: _started,
    b.TaskParked: _parked,
    b.TaskLapsed: _lapsed,
    b.TaskJudged: _judged,
    b.TaskSettled: _settled,
    b.TaskQuarantined: _quarantined,
}
