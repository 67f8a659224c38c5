"""Planning again: when tasks have failed for good, the planner plans on from what is finished.

Only a plan that a model made is made anew: a plan of the library has no other way, and a given one is the user's.
"""

from __future__ import annotations

from msgspec.structs import replace

from collegium.domain import body as b
from collegium.domain.decision import Decision
from collegium.domain.plan import Plan, Task
from collegium.domain.run import RunState
from collegium.domain.task import TaskState

MAX_REPLANS = 2
_FINAL = frozenset({"limited", "cancelled", "rejected", "skipped", "quarantined"})
"""Errors that no other plan gets around."""


def failures_to_plan_around(state: RunState) -> tuple[TaskState, ...]:
    """Tasks of the plan that failed and that nobody has planned around yet; empty where that is not to be tried."""
    if state.plan_source != "model" or len(state.replans) >= MAX_REPLANS:
        return ()
    known = {name for failed in state.replans.values() for name in failed}
    return tuple(t for t in state.planned if t.status == "failed" and t.error not in _FINAL and t.task.id not in known)


def replanning(state: RunState, failed: tuple[TaskState, ...]) -> Decision:
    """The decision to plan again."""
    reason = "; ".join(f"{t.task.title}: {t.reason or t.error}" for t in failed)
    name = f"plan-{len(state.replans) + 2}"
    return Decision(body=b.RunReplanning(task=name, failed=tuple(t.task.id for t in failed), reason=reason))


def is_held(state: RunState, task: TaskState) -> bool:
    """Whether ``task`` waits for a new plan because of what it needs."""
    if all(name in state.adopted or _is_given_up(state.tasks[name]) for name in state.replans):
        return False
    about = {name for failed in state.replans.values() for name in failed}
    return bool(about & _needed(state, task))


def new_plan(state: RunState) -> tuple[Plan, str] | None:
    """The plan of a planning task that is not followed yet, with what is finished or under way in it, and why."""
    for name, failed in state.replans.items():
        task = state.tasks[name]
        if name in state.adopted or task.result is None or task.result.plan is None:
            continue
        titles = ", ".join(repr(state.tasks[f].task.title) for f in failed)
        return merged(state, task.result.plan), f"planned around {titles}"
    return None


def merged(state: RunState, plan: Plan) -> Plan:
    """``plan`` with every task that has succeeded or is under way as it is, and new names for what is new.

    A task that has been tried keeps its conversation, so its name is never given to another one. What the new tasks
    would need of tasks that are gone is left out.
    """
    kept = {t.task.id: t.task for t in state.planned if t.status == "succeeded" or t.is_open or t.status == "parked"}
    names = {t.id: _name(t.id, state) for t in plan.tasks if t.id not in kept}
    new = [_renamed(t, names, kept) for t in plan.tasks if t.id not in kept]
    tasks = (*(replace(t, depends_on=tuple(d for d in t.depends_on if d in kept)) for t in kept.values()), *new)
    return Plan(tasks=tasks, notes=plan.notes)


def _renamed(task: Task, names: dict[str, str], kept: dict[str, Task]) -> Task:
    needs = tuple(names.get(d, d) for d in task.depends_on if d in names or d in kept)
    return replace(task, id=names[task.id], depends_on=needs)


def _name(name: str, state: RunState) -> str:
    taken = {k for k, t in state.tasks.items() if t.attempt > 0 or t.is_settled or t.asked is not None}
    count, found = 2, name
    while found in taken:
        found, count = f"{name}-{count}", count + 1
    return found


def _is_given_up(planning: TaskState) -> bool:
    return planning.is_settled and (planning.result is None or planning.result.plan is None)


def _needed(state: RunState, task: TaskState) -> set[str]:
    """Everything that ``task`` needs, directly or not."""
    found: set[str] = set()
    queue = list(task.task.depends_on)
    while queue:
        name = queue.pop()
        if name not in found:
            found.add(name)
            queue += state.tasks[name].task.depends_on
    return found
