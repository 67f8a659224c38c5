"""Goals whose every step is known beforehand: a mark in a task's text says which calls its model shall propose."""

from __future__ import annotations

import re
from typing import NamedTuple

from collegium.domain.plan import Plan, Task

MARK = re.compile(r"\[\[(?P<tag>\S+) (?P<task>\S+) (?P<steps>\S+)\]\]")
PLANNED = re.compile(r"\{\{(?P<tag>\S+) (?P<kind>\S+)\}\}")

KINDS: dict[str, dict[str, tuple[str, tuple[str, ...]]]] = {
    "plain": {"a": ("plain,look,plain", ())},
    "checked": {"a": ("checked,look,checked", ())},
    "again": {"a": ("again,again", ())},
    "reading": {"a": ("look+look,look,look", ())},
    "mixed": {"a": ("plain+checked,look+look,again", ())},
    "team": {"a": ("plain,look", ()), "b": ("checked,look", ()), "c": ("again", ("a", "b"))},
    "planned": {"a": ("plain", ()), "b": ("look,checked", ("a",))},
}
"""Per kind of run: the calls of each task (steps by comma, calls of a step by plus) and what it depends on."""


class Mark(NamedTuple):
    """Whose turn it is: the run's tag, the task and the calls of its steps."""

    tag: str
    task: str
    steps: tuple[tuple[str, ...], ...]


def goal(tag: str, kind: str) -> str:
    """The goal's text."""
    return f"Chaos {{{{{tag} {kind}}}}}"


def plan(tag: str, kind: str) -> Plan | None:
    """The plan to submit with the goal; None where the model is to make it."""
    return None if kind == "planned" else Plan(tasks=tasks(tag, kind))


def tasks(tag: str, kind: str) -> tuple[Task, ...]:
    """The tasks of a run."""
    return tuple(
        Task(id=i, title=f"Task {i}", capability="operate", instructions=f"[[{tag} {i} {steps}]]", depends_on=depends)
        for i, (steps, depends) in KINDS[kind].items()
    )


def find_mark(text: str) -> Mark | None:
    """The mark in a task's text."""
    found = MARK.search(text)
    if found is None:
        return None
    steps = tuple(tuple(s.split("+")) for s in found["steps"].split(","))
    return Mark(found["tag"], found["task"], steps)


def label(tag: str, task: str, step: int, call: int) -> str:
    """What one call of a run is known by at the far side; ``step`` counts from 1."""
    return f"{tag}/{task}/{step}/{call}"


def labels(tag: str, kind: str) -> dict[str, str]:
    """Tool by label of every call that a run of this kind makes when all goes well."""
    return {
        label(tag, task, n, c): name
        for task, (steps, _) in KINDS[kind].items()
        for n, step in enumerate(steps.split(","), start=1)
        for c, name in enumerate(step.split("+"))
    }
