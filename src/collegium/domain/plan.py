"""Plans: which tasks, and which must come before which."""

from __future__ import annotations

from collections.abc import Collection
from graphlib import CycleError, TopologicalSorter
from typing import Literal

import msgspec

from collegium.domain.errors import InvalidPlan

PLAN_TASK = "plan"
"""Id of the task that makes the plan; no task of a plan may have it."""


class Task(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A piece of work for one agent.

    Attributes:
        id: Short and unique within the run.
        instructions: What to do, for the agent.
        depends_on: Tasks whose results it is given.
        needs: ``all``: skipped when one of ``depends_on`` fails. ``any``: goes on with what there is, if anything.
        tools: Tools it may use (an allow-list, on top of the agent's own).
        save_as: Path in the work folder under which the result's text is saved too, or None.
        max_attempts: Tries before it has failed.
        timeout_s: Seconds one attempt may take, or None for as long as the run's deadline lets it.
    """

    id: str
    title: str
    capability: str
    instructions: str = ""
    depends_on: tuple[str, ...] = ()
    needs: Literal["all", "any"] = "all"
    tools: tuple[str, ...] = ()
    save_as: str | None = None
    max_attempts: int = 3
    timeout_s: float | None = None


class Plan(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A directed acyclic graph of tasks; ``template`` names the library plan it comes from, if any."""

    tasks: tuple[Task, ...]
    template: str | None = None
    notes: str = ""

    def sinks(self) -> tuple[Task, ...]:
        """Tasks nothing depends on: their results are the run's."""
        needed = {d for t in self.tasks for d in t.depends_on}
        return tuple(t for t in self.tasks if t.id not in needed)

    def order(self) -> tuple[str, ...]:
        """Task ids, each after everything it depends on. Raises ``InvalidPlan`` for a cycle."""
        try:
            return tuple(TopologicalSorter({t.id: t.depends_on for t in self.tasks}).static_order())
        except CycleError as error:
            raise InvalidPlan((_cycle_text(error),)) from error


def validate(plan: Plan, *, capabilities: Collection[str], limit_tasks: int = 64) -> None:
    """Refuses a plan that cannot run, before anything is spent on it. Raises ``InvalidPlan`` with every problem."""
    problems: list[str] = []
    ids = [t.id for t in plan.tasks]
    known = set(ids)
    if not ids:
        problems.append("it has no tasks")
    if len(ids) > limit_tasks:
        problems.append(f"it has {len(ids)} tasks and the limit is {limit_tasks}")
    problems += [f"the task id {i!r} is used {ids.count(i)} times" for i in sorted(known) if ids.count(i) > 1]
    if PLAN_TASK in known:
        problems.append(f"the task id {PLAN_TASK!r} is reserved")
    for task in plan.tasks:
        if not task.id or not task.title.strip():
            problems.append(f"task {task.id!r} has no id or no title")
        if task.capability not in capabilities:
            offered = ", ".join(sorted(capabilities))
            problems.append(f"task {task.id!r} asks for the capability {task.capability!r}; there is {offered}")
        problems += [
            f"task {task.id!r} depends on {dep!r}, which is no task of the plan"
            for dep in task.depends_on
            if dep not in known
        ]
    if not problems:
        try:
            plan.order()
        except InvalidPlan as error:
            problems += error.problems
    if problems:
        raise InvalidPlan(tuple(problems))


def _cycle_text(error: CycleError) -> str:
    return "tasks wait for each other: " + " -> ".join(str(i) for i in error.args[1])
