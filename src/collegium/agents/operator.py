"""The operator: a task is carried out with tools."""

from __future__ import annotations

from collegium.agents.context import opening
from collegium.agents.desk import Desk
from collegium.agents.loop import work
from collegium.domain.result import TaskResult


async def operate(desk: Desk) -> TaskResult:
    """What was done and came out, in the agent's words."""
    reply = await work(desk, *opening(desk))
    return TaskResult(text=reply.text)
