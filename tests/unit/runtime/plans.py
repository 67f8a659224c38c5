"""Plans that many tests give, or have a model write."""

from __future__ import annotations

import json

from collegium.domain.plan import Plan, Task

ONE = Plan(tasks=(Task(id="do", title="Do it", capability="operate", instructions="Do it."),))


def plan_json(*tasks: tuple[str, str, list[str]]) -> str:
    """A plan as a model writes it, of ``(id, capability, what it depends on)``."""
    return json.dumps(
        {
            "tasks": [
                {"id": i, "title": i, "capability": c, "instructions": f"do {i}", "depends_on": d} for i, c, d in tasks
            ]
        }
    )
