"""What an event changes, in one line."""

from __future__ import annotations

from collegium.cli.text import count, one_line, seconds, short_id, tokens, usd
from collegium.cli.tree import Glyphs
from collegium.cli.view import RunView
from collegium.domain import body as b
from collegium.domain.event import Event
from collegium.domain.plan import PLAN_TASK


def change(view: RunView, event: Event, glyphs: Glyphs) -> str:
    """The line for ``event``, which ``view`` has taken already; empty for what nobody needs to read."""
    match event.body:
        case b.RunSubmitted() as body:
            files = f" over {count(len(body.goal.files), 'file')}" if body.goal.files else ""
            return f"run {short_id(event.run)}{files} with {body.goal.model}"
        case b.RunPlanned() as body:
            origin = {"template": f"library plan {body.plan.template}", "given": "given"}.get(
                body.source, "by the model"
            )
            return f"planned {count(len(body.plan.tasks), 'task')} ({origin})"
        case b.RunReplanned() as body:
            return f"planned anew: {one_line(body.reason)}"
        case b.ApprovalRequested() as body:
            return f"asks: {one_line(body.question)}"
        case b.ApprovalAnswered() as body:
            return f"{one_line(body.principal)} answers {one_line(body.answer)}"
        case b.RunSaid() as body:
            return f"{one_line(body.principal)} adds: {one_line(body.text)}"
        case b.RunCancelRequested():
            return "cancelling"
        case b.TaskStarted() | b.TaskParked() | b.TaskLapsed() | b.TaskSettled() | b.TaskQuarantined():
            return _task_line(view, event, glyphs)
    return ""


def _task_line(view: RunView, event: Event, glyphs: Glyphs) -> str:
    task = view.task(event.task)
    title = one_line(task.task.title)
    sign, _ = glyphs.states[task.status]
    if isinstance(event.body, b.TaskStarted):
        if task.task.id == PLAN_TASK:
            return ""
        again = f", attempt {task.attempt}" if task.attempt > 1 else ""
        return f"{glyphs.states['running'][0]} {title} ({task.agent}{again})"
    why = one_line(task.reason or task.error or task.park or "")
    if task.status == "parked" and task.park == "retry":
        return f"{sign} {title}: will be tried again: {why}"
    if task.task.id == PLAN_TASK and task.status == "succeeded":
        return ""  # the plan itself is told of
    if task.status != "succeeded":
        return f"{sign} {title}: {why}"
    usage = view.usage(task)
    facts = [seconds(view.seconds(task) or 0.0), tokens(usage.tokens) if usage.tokens else ""]
    facts.append(usd(usage.cost_usd) if usage.cost_usd else "")
    return f"{sign} {title} ({', '.join(f for f in facts if f)})"
