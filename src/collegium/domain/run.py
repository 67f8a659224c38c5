"""The state of a run: one pure fold over its deciding events.

``apply`` is the only way a state comes into being. Recording events move ``seq`` and nothing else, so that what is
decided
never depends on what merely was recorded; conversations and views fold those (``conversation.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any, Literal

import msgspec

from collegium.domain import body as b
from collegium.domain.errors import StoreCorrupt
from collegium.domain.event import Event
from collegium.domain.goal import Goal
from collegium.domain.head import RunStatus
from collegium.domain.plan import PLAN_TASK, Plan, Task
from collegium.domain.policy import Judgement
from collegium.domain.result import TaskResult
from collegium.domain.usage import Allotment, Usage

TaskStatus = Literal["pending", "ready", "running", "parked", "succeeded", "failed", "skipped", "quarantined"]
SETTLED: frozenset[str] = frozenset({"succeeded", "failed", "skipped", "quarantined"})
OPEN: frozenset[str] = frozenset({"ready", "running"})


class TaskState(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one task.

    Attributes:
        attempt: The newest attempt, 0 before the first.
        failures: Attempts that ended in an error and are to be tried again.
        barren_lapses: Lapses in a row without one new durable event of the attempt.
        wake_at: Parked: when it goes on by itself. Ready: not to be published before.
        usage: What all closed attempts took.
    """

    task: Task
    status: TaskStatus = "pending"
    attempt: int = 0
    allotment: Allotment = Allotment()
    is_alone: bool = False
    worker: str | None = None
    agent: str | None = None
    model: str | None = None
    route: str = ""
    failures: int = 0
    barren_lapses: int = 0
    park: str | None = None
    wake_at: datetime | None = None
    error: str | None = None
    reason: str = ""
    judgement: Judgement | None = None
    result: TaskResult | None = None
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


class RunState(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a run.

    ``tasks`` holds the plan's tasks in the plan's order, and the planning task where there is one.
    """

    id: str
    tenant: str
    goal: Goal
    submitted_at: datetime
    seq: int
    deciding_seq: int
    pins: dict[str, str] = {}
    plan: Plan | None = None
    plan_source: str | None = None
    plan_problems: tuple[str, ...] = ()
    tasks: dict[str, TaskState] = {}
    said: tuple[str, ...] = ()
    cancel: b.RunCancelRequested | None = None
    finished: b.RunFinished | None = None
    finished_at: datetime | None = None

    @property
    def usage(self) -> Usage:
        """What all closed attempts took."""
        return sum((t.usage for t in self.tasks.values()), Usage())

    @property
    def deadline(self) -> datetime | None:
        """When the run has to end, or None."""
        seconds = self.goal.limits.deadline_s
        return None if seconds is None else self.submitted_at + timedelta(seconds=seconds)

    def is_overdue(self, now: datetime) -> bool:
        """Whether the deadline has passed."""
        return self.deadline is not None and now >= self.deadline

    @property
    def status(self) -> RunStatus:
        """As listings and the command line name it."""
        if self.finished is not None:
            return self.finished.status
        if self.cancel is not None:
            return "cancelling"
        unsettled = [t for t in self.tasks.values() if not t.is_settled]
        if any(t.is_open for t in unsettled):
            has_begun = any(t.started_at is not None for t in self.tasks.values())
            return "running" if has_begun else "queued"
        if any(t.status == "parked" for t in unsettled):
            return "waiting"
        return "running" if self.tasks else "queued"


def planning_task(goal: Goal) -> Task:
    """The task that makes the plan of ``goal``: planning has attempts, steps and limits like any other work."""
    return Task(id=PLAN_TASK, title="Plan", capability="plan", instructions=goal.text)


def fold(events: Iterable[Event], state: RunState | None = None) -> RunState | None:
    """The state after ``events``; None when there are none and no state was given."""
    for event in events:
        state = apply(state, event)
    return state


def apply(state: RunState | None, event: Event) -> RunState:
    """The state after ``event``. Raises ``StoreCorrupt`` for an event that cannot follow.

    Only deciding events may be left out between two calls; ``seq`` then still grows.
    """
    body = event.body
    if state is None:
        if not isinstance(body, b.RunSubmitted):
            raise StoreCorrupt(f"run {event.run} begins with {event.type} at seq {event.seq}, not with run.submitted")
        return _submitted(event, body)
    if event.seq <= state.seq:
        raise StoreCorrupt(f"run {event.run}: seq {event.seq} follows seq {state.seq}")
    if not event.is_deciding:
        return msgspec.structs.replace(state, seq=event.seq)
    state = msgspec.structs.replace(state, seq=event.seq, deciding_seq=event.seq)
    on_run = _ON_RUN.get(type(body))
    if on_run is not None:
        return on_run(state, event, body)
    on_task = _ON_TASK.get(type(body))
    if on_task is None:
        return state
    if event.task is None or event.task not in state.tasks:
        raise StoreCorrupt(f"run {event.run}: {event.type} at seq {event.seq} names the unknown task {event.task!r}")
    task = on_task(state.tasks[event.task], event, body)
    return msgspec.structs.replace(state, tasks={**state.tasks, event.task: task})


def _submitted(event: Event, body: b.RunSubmitted) -> RunState:
    tasks = {} if body.goal.plan is not None else {PLAN_TASK: TaskState(task=planning_task(body.goal))}
    return RunState(
        id=event.run,
        tenant=event.tenant,
        goal=body.goal,
        pins=body.pins,
        submitted_at=event.at,
        seq=event.seq,
        deciding_seq=event.seq,
        tasks=tasks,
    )


def _planned(state: RunState, event: Event, body: Any) -> RunState:
    planning = {k: v for k, v in state.tasks.items() if k == PLAN_TASK}
    fresh = {t.id: TaskState(task=t) for t in body.plan.tasks}
    return msgspec.structs.replace(
        state,
        plan=body.plan,
        plan_source=body.source,
        plan_problems=body.problems,
        tasks={**planning, **fresh},
    )


def _replanned(state: RunState, event: Event, body: Any) -> RunState:
    kept = {k: v for k, v in state.tasks.items() if v.is_settled or v.is_open}
    fresh = {t.id: kept.get(t.id, TaskState(task=t)) for t in body.plan.tasks}
    return msgspec.structs.replace(state, plan=body.plan, tasks={**kept, **fresh})


def _said(state: RunState, event: Event, body: Any) -> RunState:
    return msgspec.structs.replace(state, said=(*state.said, body.text))


def _cancel(state: RunState, event: Event, body: Any) -> RunState:
    return msgspec.structs.replace(state, cancel=state.cancel or body)


def _finished(state: RunState, event: Event, body: Any) -> RunState:
    return msgspec.structs.replace(state, finished=body, finished_at=event.at)


def _ready(task: TaskState, event: Event, body: Any) -> TaskState:
    return msgspec.structs.replace(
        task,
        status="ready",
        attempt=event.attempt or 0,
        allotment=body.allotment,
        is_alone=body.is_alone,
        worker=None,
        agent=None,
        model=None,
        park=None,
        wake_at=body.not_before,
        ready_at=event.at,
    )


def _routed(task: TaskState, event: Event, body: Any) -> TaskState:
    return msgspec.structs.replace(task, agent=body.agent, route=body.reason)


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


_ON_RUN: dict[type[b.Body], Callable[[RunState, Event, Any], RunState]] = {
    b.RunPlanned: _planned,
    b.RunReplanned: _replanned,
    b.RunSaid: _said,
    b.RunCancelRequested: _cancel,
    b.RunFinished: _finished,
}
_ON_TASK: dict[type[b.Body], Callable[[TaskState, Event, Any], TaskState]] = {
    b.TaskReady: _ready,
    b.TaskRouted: _routed,
    b.TaskStarted: _started,
    b.TaskParked: _parked,
    b.TaskLapsed: _lapsed,
    b.TaskJudged: _judged,
    b.TaskSettled: _settled,
    b.TaskQuarantined: _quarantined,
}
