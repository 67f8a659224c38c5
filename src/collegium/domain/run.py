"""The state of a run: one pure fold over its deciding events.

``apply`` is the only way a state comes into being. Recording events move ``seq`` and nothing else, so that what is
decided
never depends on what merely was recorded; conversations and views fold those (``conversation.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any

import msgspec

from collegium.domain import body as b
from collegium.domain.errors import StoreCorrupt
from collegium.domain.event import Event
from collegium.domain.goal import Goal, shared
from collegium.domain.head import RunStatus
from collegium.domain.plan import PLAN_TASK, Plan, Task
from collegium.domain.task import STOPS, Asked, TaskState, apply_to_task, moves_task
from collegium.domain.usage import Usage


class Approval(msgspec.Struct, frozen=True, kw_only=True):
    """A question to a person, and the answer once it is there."""

    id: str
    request: b.ApprovalRequested
    requested_at: datetime
    task: str | None = None
    answer: b.ApprovalAnswered | None = None
    answered_at: datetime | None = None


class Draw(msgspec.Struct, frozen=True, kw_only=True):
    """What the run may take out of accounts.

    ``before`` is what it had used until then; ``usage`` is set once it is over.
    """

    allotted: b.RunAllotted
    before: Usage
    usage: Usage | None = None


class RunState(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a run.

    Attributes:
        tasks: The planning tasks, the plan's tasks in its order, those of earlier plans that have begun, and those
            that agents have asked colleagues for.
        replans: Ids of the planning tasks that planned again, with the tasks each is about.
        adopted: Those among them whose plan was taken up, or rejected.
        unknown: Writes nobody knows the outcome of, by their key, until a person has said.
        draws: What was drawn from accounts, by id.
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
    replans: dict[str, tuple[str, ...]] = {}
    adopted: tuple[str, ...] = ()
    approvals: dict[str, Approval] = {}
    unknown: dict[str, b.ToolOutcomeUnknown] = {}
    draws: dict[str, Draw] = {}
    forked: b.RunForked | None = None
    said: tuple[str, ...] = ()
    cancel: b.RunCancelRequested | None = None
    finished: b.RunFinished | None = None
    finished_at: datetime | None = None

    @property
    def usage(self) -> Usage:
        """What all closed attempts took."""
        return sum((t.usage for t in self.tasks.values()), Usage())

    @property
    def planned(self) -> tuple[TaskState, ...]:
        """The tasks of the plan that holds now, in its order."""
        return () if self.plan is None else tuple(self.tasks[t.id] for t in self.plan.tasks)

    @property
    def open_approvals(self) -> tuple[Approval, ...]:
        """Questions that wait for an answer."""
        return tuple(a for a in self.approvals.values() if a.answer is None)

    @property
    def draw(self) -> Draw | None:
        """What the run holds of its accounts now."""
        return next((d for d in self.draws.values() if d.usage is None), None)

    def asked_by(self, task: str) -> tuple[TaskState, ...]:
        """What ``task`` has asked colleagues for, in order."""
        return tuple(t for t in self.tasks.values() if t.asked is not None and t.asked.by == task)

    def held_by(self, task: str) -> tuple[Approval, ...]:
        """The open questions that ``task`` waits for."""
        return tuple(a for a in self.open_approvals if a.task == task)

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
        if self.open_approvals or any(t.status == "parked" for t in unsettled):
            return "waiting"
        return "running" if self.tasks else "queued"


def planning_task(goal: Goal, name: str = PLAN_TASK) -> Task:
    """The task that makes the plan of ``goal``: planning has attempts, steps and limits like any other work."""
    title = "Plan" if name == PLAN_TASK else "Plan again"
    return Task(id=name, title=title, capability="plan", instructions=goal.text)


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
    if isinstance(body, b.RunForked) and state is not None:
        return _forked(state, event, body)
    if state is None:
        if not isinstance(body, b.RunSubmitted):
            raise StoreCorrupt(f"{event.run} begins with {event.type} at seq {event.seq}, not with run.submitted")
        return _submitted(event, body)
    if event.seq <= state.seq:
        raise StoreCorrupt(f"{event.run}: seq {event.seq} follows seq {state.seq}")
    if not event.is_deciding:
        return msgspec.structs.replace(state, seq=event.seq)
    state = msgspec.structs.replace(state, seq=event.seq, deciding_seq=event.seq)
    on_run = _ON_RUN.get(type(body))
    if on_run is not None:
        return on_run(state, event, body)
    if not moves_task(body):
        return state
    if event.task is None or event.task not in state.tasks:
        raise StoreCorrupt(f"{event.run}: {event.type} at seq {event.seq} names the unknown task {event.task!r}")
    task = apply_to_task(state.tasks[event.task], event)
    if isinstance(body, b.TaskStarted):
        task = msgspec.structs.replace(task, heard=len(state.said))
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
    # What has begun stays, in the plan or not: its results are used and its costs are counted.
    kept = {k: v for k, v in state.tasks.items() if v.attempt > 0 or v.is_settled or v.asked or k in state.replans}
    fresh = {t.id: TaskState(task=t) for t in body.plan.tasks if t.id not in kept}
    adopted = tuple(name for name in state.replans if state.tasks[name].is_settled)
    return msgspec.structs.replace(state, plan=body.plan, tasks={**kept, **fresh}, adopted=adopted)


def _replanning(state: RunState, event: Event, body: Any) -> RunState:
    task = TaskState(task=planning_task(state.goal, body.task))
    return msgspec.structs.replace(
        state, replans={**state.replans, body.task: body.failed}, tasks={**state.tasks, body.task: task}
    )


def _asked(state: RunState, event: Event, body: Any) -> RunState:
    if event.task is None or event.task not in state.tasks:
        raise StoreCorrupt(f"{event.run}: {event.type} at seq {event.seq} names the unknown task {event.task!r}")
    if body.task.id in state.tasks:
        raise StoreCorrupt(
            f"{event.run}: {event.type} at seq {event.seq} makes the task {body.task.id!r} a second time"
        )
    asked = Asked(by=event.task, step=body.step, call=body.call, allotment=body.allotment)
    return msgspec.structs.replace(state, tasks={**state.tasks, body.task.id: TaskState(task=body.task, asked=asked)})


def _forked(state: RunState, event: Event, body: b.RunForked) -> RunState:
    """The run as its fork finds it: results stay, what was under way begins again, nothing is owed or asked."""
    before = state.goal
    scopes = shared(before.scopes, body.scopes)
    goal = msgspec.structs.replace(before, model=body.model or before.model, principal=body.principal, scopes=scopes)
    plan = body.plan or state.plan
    done = {k: msgspec.structs.replace(t, usage=Usage()) for k, t in state.tasks.items() if t.is_settled}
    fresh = {t.id: TaskState(task=t) for t in (plan.tasks if plan else ())}
    known = {**{k: TaskState(task=t.task, asked=t.asked) for k, t in state.tasks.items()}, **fresh}
    if body.plan is not None:
        known = {k: t for k, t in known.items() if k in done or k in fresh or (t.asked and t.asked.by in fresh)}
    return RunState(
        id=event.run,
        tenant=event.tenant,
        goal=goal,
        submitted_at=event.at,
        seq=event.seq,
        deciding_seq=event.seq,
        pins=body.pins,
        plan=plan,
        plan_source="given" if body.plan is not None else state.plan_source,
        plan_problems=state.plan_problems,
        tasks={k: done.get(k, t) for k, t in known.items()},
        replans=state.replans,
        adopted=state.adopted,
        forked=body,
        said=state.said,
    )


def _allotted(state: RunState, event: Event, body: Any) -> RunState:
    return msgspec.structs.replace(state, draws={**state.draws, body.draw: Draw(allotted=body, before=state.usage)})


def _returned(state: RunState, event: Event, body: Any) -> RunState:
    draw = state.draws.get(body.draw)
    if draw is None:
        raise StoreCorrupt(f"{event.run}: {event.type} at seq {event.seq} names the unknown draw {body.draw}")
    over = msgspec.structs.replace(draw, usage=body.usage)
    return msgspec.structs.replace(state, draws={**state.draws, body.draw: over})


def _requested(state: RunState, event: Event, body: Any) -> RunState:
    approval = Approval(id=body.approval, request=body, requested_at=event.at, task=event.task)
    return msgspec.structs.replace(state, approvals={**state.approvals, body.approval: approval})


def _answered(state: RunState, event: Event, body: Any) -> RunState:
    asked = state.approvals.get(body.approval)
    if asked is None:
        raise StoreCorrupt(f"{event.run}: {event.type} at seq {event.seq} answers the unknown {body.approval}")
    approval = msgspec.structs.replace(asked, answer=body, answered_at=event.at)
    unknown = {k: u for k, u in state.unknown.items() if k != asked.request.key or asked.request.kind != "outcome"}
    return msgspec.structs.replace(state, approvals={**state.approvals, body.approval: approval}, unknown=unknown)


def _unknown(state: RunState, event: Event, body: Any) -> RunState:
    return msgspec.structs.replace(state, unknown={**state.unknown, body.key: body})


def _resumed(state: RunState, event: Event, body: Any) -> RunState:
    stopped = {
        k: msgspec.structs.replace(t, wake_at=event.at)
        for k, t in state.tasks.items()
        if t.status == "parked" and t.park in STOPS
    }
    return msgspec.structs.replace(state, tasks={**state.tasks, **stopped})


def _said(state: RunState, event: Event, body: Any) -> RunState:
    return msgspec.structs.replace(state, said=(*state.said, body.text))


def _cancel(state: RunState, event: Event, body: Any) -> RunState:
    return msgspec.structs.replace(state, cancel=state.cancel or body)


def _finished(state: RunState, event: Event, body: Any) -> RunState:
    return msgspec.structs.replace(state, finished=body, finished_at=event.at)


_ON_RUN: dict[type[b.Body], Callable[[RunState, Event, Any], RunState]] = {
    b.RunPlanned: _planned,
    b.RunReplanned: _replanned,
    b.RunReplanning: _replanning,
    b.TaskAsked: _asked,
    b.RunAllotted: _allotted,
    b.RunReturned: _returned,
    b.ApprovalRequested: _requested,
    b.ApprovalAnswered: _answered,
    b.ToolOutcomeUnknown: _unknown,
    b.RunResumed: _resumed,
    b.RunSaid: _said,
    b.RunCancelRequested: _cancel,
    b.RunFinished: _finished,
}
