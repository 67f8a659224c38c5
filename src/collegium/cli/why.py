"""Why each task of a run went to its agent, in one line."""

from __future__ import annotations

from collegium.cli.text import count, one_line
from collegium.domain.plan import PLAN_TASK
from collegium.domain.run import RunState

MAX_LINES = 20


def why(state: RunState) -> list[str]:
    """A line for each task that was given to an agent; ``--json`` has the figures of all that were looked at."""
    routed = [t for t in state.tasks.values() if t.agent and t.route and t.task.id != PLAN_TASK]
    if not routed:
        return []
    width = max(len(t.task.id) for t in routed[:MAX_LINES])
    lines = [f"{one_line(t.task.id):<{width}}  {one_line(f'{t.agent}: {t.route}')}" for t in routed[:MAX_LINES]]
    if len(routed) > MAX_LINES:
        lines.append(f"and {count(len(routed) - MAX_LINES, 'task')} more: --json shows all of them")
    return lines
