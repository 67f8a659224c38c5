"""What to do next: one pure function of a run's state and the time.

Every rule of orchestration is here; whoever may append (any worker, any server) evaluates it and appends what it says
with ``expected``. Two who do so at once get the same answer, and one of them a ``Conflict``.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal

from collegium.domain import body as b
from collegium.domain.allot import allot, given_back
from collegium.domain.asking import answer_on_plan, ask_for_plan, expired
from collegium.domain.decision import Decision
from collegium.domain.ending import EndStatus, cut_short, finish
from collegium.domain.plan import PLAN_TASK, Plan
from collegium.domain.replan import failures_to_plan_around, is_held, merged, new_plan, replanning
from collegium.domain.run import RunState
from collegium.domain.task import STOPS, TaskState

REPUBLISH_S = 1.0
"""Work that was decided but perhaps not published is looked at again after this time."""
MAX_BARREN_LAPSES = 3


def decide(state: RunState, now: datetime) -> tuple[Decision, ...]:
    """The next deciding events of a run, or nothing when it is for others to act.

    The caller appends them, folds, and asks again until nothing is left to decide.
    """
    if state.finished is not None:
        return ()
    if state.cancel is not None:
        return _wind_down(state, "cancelled", "the run was cancelled")
    if state.is_overdue(now):
        return _wind_down(state, "limited", f"the deadline of {state.goal.limits.deadline_s:g} s has passed")
    late = expired(state, now)
    if late:
        return late
    if state.plan is None:
        return _towards_plan(state, now)
    if state.goal.is_plan_only:
        return _end(state, b.RunFinished(status="succeeded"))
    return _onwards(state, state.plan, now)


def resumed(state: RunState, principal: str) -> tuple[Decision, ...]:
    """The decision with which a run goes on that was stopped; parks that wait for a person's word stay."""
    if state.finished is not None or state.cancel is not None:
        return ()
    is_stopped = any(t.status == "parked" and t.park in STOPS and t.wake_at is None for t in state.tasks.values())
    return (Decision(body=b.RunResumed(principal=principal)),) if is_stopped else ()


def wake_at(state: RunState, now: datetime) -> datetime | None:
    """The next moment anybody must look at the run, or None when only an answer from outside moves it."""
    if state.finished is not None:
        return None
    moments = [] if state.deadline is None else [state.deadline]
    moments += [a.request.expires_at for a in state.open_approvals if a.request.expires_at is not None]
    for task in state.tasks.values():
        if task.status == "ready":
            moments.append(max(task.wake_at or now, now + timedelta(seconds=REPUBLISH_S)))
        elif task.status == "parked" and task.wake_at is not None:
            moments.append(task.wake_at)
    return min(moments, default=None)


def _onwards(state: RunState, plan: Plan, now: datetime) -> tuple[Decision, ...]:
    """What follows under ``plan``: planning around failures, the next attempts, the end, or waiting."""
    failed = failures_to_plan_around(state)
    if failed:
        return (replanning(state, failed),)
    adopted = _adopt(state, plan)
    if adopted:
        return adopted
    decisions = tuple(d for t in state.tasks.values() if (d := _towards_outcome(state, t, now)) is not None)
    decisions = _within_fan_out(state, decisions)
    if decisions:
        return allot(state, decisions)
    if all(t.is_settled for t in state.tasks.values()):
        return _end(state, finish(state))
    return given_back(state) if _waits_for_a_person(state) else ()


def _waits_for_a_person(state: RunState) -> bool:
    """Whether nothing moves the run but a word from outside: until then it owes its accounts what it holds."""
    unsettled = [t for t in state.tasks.values() if not t.is_settled]
    return not any(t.is_open or t.wake_at is not None for t in unsettled)


def _end(state: RunState, finished: b.RunFinished) -> tuple[Decision, ...]:
    return (*given_back(state), Decision(body=finished))


def _towards_plan(state: RunState, now: datetime) -> tuple[Decision, ...]:
    if state.goal.plan is not None:
        return _reviewed(state, b.RunPlanned(plan=state.goal.plan, source="given"))
    planning = state.tasks[PLAN_TASK]
    if planning.status == "succeeded" and planning.result is not None and planning.result.plan is not None:
        plan, notes = planning.result.plan, planning.result.notes
        source: Literal["template", "model"] = "model" if plan.template is None else "template"
        return _reviewed(state, b.RunPlanned(plan=plan, source=source, problems=notes))
    if planning.is_settled:
        status: EndStatus = "limited" if planning.error == "limited" else "failed"
        reason = planning.reason or "no plan could be made"
        return _end(state, b.RunFinished(status=status, error=planning.error, reason=reason))
    decision = _towards_outcome(state, planning, now)
    if decision is not None:
        return allot(state, (decision,))
    return given_back(state) if _waits_for_a_person(state) else ()


def _reviewed(state: RunState, planned: b.RunPlanned) -> tuple[Decision, ...]:
    """The plan, once a person has approved it where that was asked for."""
    if not state.goal.is_plan_reviewed or state.goal.is_plan_only:
        return (Decision(body=planned),)
    answer = answer_on_plan(state, planned.plan)
    if answer is None:
        return (ask_for_plan(state, planned.plan),)
    if isinstance(answer, b.ApprovalRequested):
        return given_back(state)
    if answer.answer != "approve":
        reason = f"the plan was rejected by {answer.principal}" + (f": {answer.reason}" if answer.reason else "")
        return _end(state, b.RunFinished(status="failed", error="rejected", reason=reason))
    if answer.plan is not None:
        return (Decision(body=b.RunPlanned(plan=answer.plan, source="given")),)
    return (Decision(body=planned),)


def _adopt(state: RunState, present: Plan) -> tuple[Decision, ...]:
    """The new plan that a planning task has made, once a person has approved it where that was asked for.

    Where it was rejected, the ``present`` one stays.
    """
    found = new_plan(state)
    if found is None:
        return ()
    plan, reason = found
    if state.goal.is_plan_reviewed:
        answer = answer_on_plan(state, plan)
        if answer is None:
            return (ask_for_plan(state, plan),)
        if isinstance(answer, b.ApprovalRequested):
            return ()
        edited = plan if answer.plan is None else merged(state, answer.plan)
        plan = edited if answer.answer == "approve" else present
    return (Decision(body=b.RunReplanned(plan=plan, reason=reason)),)


def _towards_outcome(state: RunState, task: TaskState, now: datetime) -> Decision | None:
    """What moves one task on: its first or next attempt, its skipping, its quarantine."""
    if task.status == "pending":
        return _from_pending(state, task)
    if task.status != "parked":
        return None
    if task.barren_lapses >= MAX_BARREN_LAPSES:
        reason = f"{task.barren_lapses} attempts in a row ended with their worker's death and left nothing"
        return Decision(body=b.TaskQuarantined(reason=reason), task=task.task.id)
    if not _may_go_on(state, task, now):
        return None
    is_alone = task.barren_lapses == MAX_BARREN_LAPSES - 1
    return Decision(body=b.TaskReady(is_alone=is_alone), task=task.task.id, attempt=task.attempt + 1)


def _may_go_on(state: RunState, task: TaskState, now: datetime) -> bool:
    """Whether what a parked task waits for is there: the time, or the answers to all it has asked."""
    if task.park == "ask":
        return all(t.is_settled for t in state.asked_by(task.task.id))
    if task.park in ("approval", "outcome_unknown"):
        has_asked = any(a.task == task.task.id for a in state.approvals.values())
        return has_asked and not state.held_by(task.task.id)
    return task.wake_at is not None and task.wake_at <= now


def _from_pending(state: RunState, task: TaskState) -> Decision | None:
    if is_held(state, task):
        return None
    # A fork begins its open tasks anew: one that had asked waits for the answers as it did in the parent.
    if state.forked is not None and not all(t.is_settled for t in state.asked_by(task.task.id)):
        return None
    needed = [state.tasks[d] for d in task.task.depends_on]
    if not all(n.is_settled for n in needed):
        return None
    lost = [n for n in needed if n.status != "succeeded"]
    if lost and (task.task.needs == "all" or len(lost) == len(needed)):
        names = ", ".join(repr(n.task.title) for n in lost)
        return Decision(
            body=b.TaskSettled(outcome="skipped", error="skipped", reason=f"it needs {names}, which gave no result"),
            task=task.task.id,
        )
    return Decision(body=b.TaskReady(), task=task.task.id, attempt=task.attempt + 1)


def _within_fan_out(state: RunState, decisions: tuple[Decision, ...]) -> tuple[Decision, ...]:
    """The decisions without those attempts that would be one too many at the same time."""
    most = state.goal.limits.parallel
    if most is None:
        return decisions
    room = most - sum(1 for t in state.tasks.values() if t.is_open)
    kept: list[Decision] = []
    for decision in decisions:
        if isinstance(decision.body, b.TaskReady):
            if room <= 0:
                continue
            room -= 1
        kept.append(decision)
    return tuple(kept)


def _wind_down(state: RunState, error: Literal["cancelled", "limited"], reason: str) -> tuple[Decision, ...]:
    """Ends what no worker holds; when no attempt is open, ends the run with what there is."""
    idle = [t for t in state.tasks.values() if not t.is_settled and t.status != "running"]
    if idle:
        return tuple(
            Decision(
                body=b.TaskSettled(outcome="skipped", error=error, reason=reason),
                task=t.task.id,
                attempt=t.attempt if t.status == "ready" else None,
            )
            for t in idle
        )
    if any(t.is_open for t in state.tasks.values()):
        return ()
    return _end(state, cut_short(state, error, reason))
