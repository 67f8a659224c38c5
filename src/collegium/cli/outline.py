"""A plan as the lines of a tree: each task with what it needs below it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from collegium.domain.plan import PLAN_TASK, Task


class Line(NamedTuple):
    """One line: ``guide`` draws the branches; a task that already stood above is not ``is_first``."""

    guide: str
    task: str
    is_first: bool


class Branches(NamedTuple):
    """The four pieces that branches are drawn with."""

    middle: str = "├─ "
    last: str = "└─ "
    through: str = "│  "
    blank: str = "   "


ASCII_BRANCHES = Branches("|- ", "`- ", "|  ", "   ")


def outline(tasks: Sequence[Task], branches: Branches | None = None) -> tuple[Line, ...]:
    """The lines of ``tasks``: the planning task first, then what nothing depends on, and below it what it needs.

    A task that several others need stands below the first of them, and as a mere mention below the rest.
    """
    drawn = branches or Branches()
    by_id = {t.id: t for t in tasks}
    needed = {d for t in tasks for d in t.depends_on}
    roots = [t.id for t in tasks if t.id == PLAN_TASK] + [t.id for t in tasks if t.id not in needed | {PLAN_TASK}]
    seen: set[str] = set()

    def walk(ids: Sequence[str], before: str) -> Iterator[Line]:
        for position, id_ in enumerate(ids):
            is_last = position == len(ids) - 1
            is_first = id_ not in seen
            seen.add(id_)
            yield Line(before + (drawn.last if is_last else drawn.middle), id_, is_first)
            if is_first:
                below = [d for d in by_id[id_].depends_on if d in by_id]
                yield from walk(below, before + (drawn.blank if is_last else drawn.through))

    return tuple(walk(roots, ""))
