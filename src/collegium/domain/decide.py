"""What to do next: one pure function of a run's state and the time.

Every rule of orchestration is here; whoever may append (any worker, any server) evaluates it and appends what it says
with
``expected``. Two who do so at once get the same answer, and one of them a ``Conflict``.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from decimal import ROUND_FLOOR, Decimal
from typing import Literal

import msgspec

from collegium.domain import body as b
from collegium.domain.document import Citation
from collegium.domain.plan import PLAN_TASK
from collegium.domain.result import Answer, TaskResult
from collegium.domain.run import RunState, TaskState
from collegium.domain.usage import ZERO_USD, Allotment

REPUBLISH_S = 1.0
"""Work that was decided but perhaps not published is looked at again after this time."""
MAX_BARREN_LAPSES = 3
EndStatus = Literal["succeeded", "partial", "failed", "cancelled", "limited"]
_MARK = re.compile(r"\[(\d+)\]")
_MICRO_USD = Decimal("0.000001")


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """An event to be appended with a decision: deciding, or a recording one that belongs to it."""

    body: b.Body
    task: str | None = None
    attempt: int | None = None


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
    if state.plan is None:
        return _towards_plan(state, now)
    if state.goal.is_plan_only:
        return (Decision(body=b.RunFinished(status="succeeded")),)
    decisions = tuple(d for t in state.tasks.values() if (d := _towards_outcome(state, t, now)) is not None)
    if decisions:
        return _allot(state, decisions)
    if all(t.is_settled for t in state.tasks.values()):
        return (Decision(body=_finish(state)),)
    return ()


def resumed(state: RunState) -> tuple[Decision, ...]:
    """The attempts with which a run goes on that was stopped by a drain; parks that wait for a person stay."""
    if state.finished is not None or state.cancel is not None:
        return ()
    drained = [t for t in state.tasks.values() if t.status == "parked" and t.park == "drain"]
    return _allot(state, tuple(Decision(body=b.TaskReady(), task=t.task.id, attempt=t.attempt + 1) for t in drained))


def wake_at(state: RunState, now: datetime) -> datetime | None:
    """The next moment anybody must look at the run, or None when only an answer from outside moves it."""
    if state.finished is not None:
        return None
    moments = [] if state.deadline is None else [state.deadline]
    for task in state.tasks.values():
        if task.status == "ready":
            moments.append(max(task.wake_at or now, now + timedelta(seconds=REPUBLISH_S)))
        elif task.status == "parked" and task.wake_at is not None:
            moments.append(task.wake_at)
    return min(moments, default=None)


def _towards_plan(state: RunState, now: datetime) -> tuple[Decision, ...]:
    if state.goal.plan is not None:
        return (Decision(body=b.RunPlanned(plan=state.goal.plan, source="given")),)
    planning = state.tasks[PLAN_TASK]
    if planning.status == "succeeded" and planning.result is not None and planning.result.plan is not None:
        plan, notes = planning.result.plan, planning.result.notes
        if plan.template is not None:
            return (Decision(body=b.RunPlanned(plan=plan, source="template", problems=notes)),)
        return (Decision(body=b.RunPlanned(plan=plan, source="model", problems=notes)),)
    if planning.is_settled:
        status: EndStatus = "limited" if planning.error == "limited" else "failed"
        reason = planning.reason or "no plan could be made"
        return (Decision(body=b.RunFinished(status=status, error=planning.error, reason=reason)),)
    decision = _towards_outcome(state, planning, now)
    return _allot(state, (decision,)) if decision is not None else ()


def _towards_outcome(state: RunState, task: TaskState, now: datetime) -> Decision | None:
    """What moves one task on: its first or next attempt, its skipping, its quarantine."""
    if task.status == "pending":
        return _from_pending(state, task)
    if task.status != "parked":
        return None
    if task.barren_lapses >= MAX_BARREN_LAPSES:
        reason = f"{task.barren_lapses} attempts in a row ended with their worker's death and left nothing"
        return Decision(body=b.TaskQuarantined(reason=reason), task=task.task.id)
    if task.wake_at is None or task.wake_at > now:
        return None
    is_alone = task.barren_lapses == MAX_BARREN_LAPSES - 1
    return Decision(body=b.TaskReady(is_alone=is_alone), task=task.task.id, attempt=task.attempt + 1)


def _from_pending(state: RunState, task: TaskState) -> Decision | None:
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


def _allot(state: RunState, decisions: tuple[Decision, ...]) -> tuple[Decision, ...]:
    """Gives each new attempt its part of what is left of the run's limits.

    What open attempts hold is taken, the rest is shared evenly by all unsettled tasks; unused parts come back when an
    attempt closes, so that a late task may have more than an early one, and the sum never exceeds the limit.
    """
    limits = state.goal.limits
    if limits.cost_usd is None and limits.tokens is None:
        return decisions
    held = [t for t in state.tasks.values() if t.is_open]
    waiting = sum(1 for t in state.tasks.values() if not t.is_settled and not t.is_open) or 1
    cost_usd = tokens = None
    if limits.cost_usd is not None:
        left = limits.cost_usd - state.usage.cost_usd - sum((t.allotment.cost_usd or ZERO_USD for t in held), ZERO_USD)
        cost_usd = (max(left, ZERO_USD) / waiting).quantize(_MICRO_USD, rounding=ROUND_FLOOR)
    if limits.tokens is not None:
        left_tokens = limits.tokens - state.usage.tokens - sum(t.allotment.tokens or 0 for t in held)
        tokens = max(left_tokens, 0) // waiting
    part = Allotment(cost_usd=cost_usd, tokens=tokens)
    return tuple(
        msgspec.structs.replace(d, body=msgspec.structs.replace(d.body, allotment=part))
        if isinstance(d.body, b.TaskReady)
        else d
        for d in decisions
    )


def _wind_down(state: RunState, error: str, reason: str) -> tuple[Decision, ...]:
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
    status: EndStatus = "cancelled" if error == "cancelled" else "limited"
    return (
        Decision(
            body=b.RunFinished(
                status=status, answer=_answer(state), missing=_missing(state), error=error, reason=reason
            )
        ),
    )


def _finish(state: RunState) -> b.RunFinished:
    answer, missing = _answer(state), _missing(state)
    lost = [t for t in state.tasks.values() if t.status != "succeeded"]
    limited = next((t for t in lost if t.error == "limited"), None)
    if limited is not None:
        return b.RunFinished(status="limited", answer=answer, missing=missing, error="limited", reason=limited.reason)
    doubtful = _doubtful(state)
    if not lost:
        status: EndStatus = "partial" if doubtful else "succeeded"
        return b.RunFinished(status=status, answer=answer, missing=doubtful)
    first = next((t for t in lost if t.status != "skipped"), lost[0])
    status = "failed" if answer is None else "partial"
    return b.RunFinished(
        status=status, answer=answer, missing=(*missing, *doubtful), error=first.error, reason=first.reason
    )


def _missing(state: RunState) -> tuple[str, ...]:
    return tuple(
        f"{t.task.title}: {t.reason or t.error or t.status}"
        for t in state.tasks.values()
        if t.task.id != PLAN_TASK and t.is_settled and t.status != "succeeded"
    )


def _doubtful(state: RunState) -> tuple[str, ...]:
    """Values of a JSON answer that no evidence bears out: prose carries a mark for them, data cannot."""
    return tuple(
        f"evidence for {c.text}"
        for t in state.tasks.values()
        if t.status == "succeeded" and t.result is not None and t.result.data is not None
        for c in t.result.claims
        if c.verdict in ("unsupported", "contradicted")
    )


def _answer(state: RunState) -> Answer | None:
    """What the plan's last tasks give together; None when none of them gave anything."""
    if state.plan is None:
        return None
    sinks = [state.tasks[t.id] for t in state.plan.sinks()]
    results = [t.result for t in sinks if t.status == "succeeded" and t.result is not None]
    if not results:
        return None
    artifacts = {a.path: a for t in state.tasks.values() if t.result is not None for a in t.result.artifacts}
    claims = tuple(c for r in results for c in r.claims)
    return Answer(
        text=_text(results),
        claims=claims,
        citations=_citations(results),
        actions=tuple(a for r in results for a in r.actions),
        artifacts=tuple(artifacts.values()),
        data=next((r.data for r in results if r.data is not None), None),
    )


def _text(results: list[TaskResult]) -> str:
    """The texts one after the other; marks ``[n]`` count on through all of them, as the citations do."""
    texts: list[str] = []
    before = 0
    for result in results:
        if result.text:
            texts.append(_shifted(result.text, before))
        before += sum(len(c.citations) for c in result.claims)
    return "\n\n".join(texts)


def _shifted(text: str, by: int) -> str:
    return _MARK.sub(lambda mark: f"[{int(mark[1]) + by}]", text) if by else text


def _citations(results: list[TaskResult]) -> tuple[Citation, ...]:
    claims = [c for r in results for c in r.claims]
    return tuple(msgspec.structs.replace(q, claim=i) for i, claim in enumerate(claims) for q in claim.citations)
