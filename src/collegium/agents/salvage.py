"""What is kept of a task that was cut short: the agent's last words, checked as far as that costs no call."""

from __future__ import annotations

from collegium.agents.answer import with_marks
from collegium.agents.context import saved
from collegium.agents.desk import Desk
from collegium.agents.overseer import evidence
from collegium.domain.result import TaskResult
from collegium.oversight.grounding import check


async def salvage(desk: Desk) -> TaskResult | None:
    """What the task has given so far: its last text, every sentence cited or marked, and the files it has written.

    None when there is nothing, or when a part of it would be no use: a plan, or data that has to fit a schema.
    """
    texts = [t.proposed.reply.text for t in desk.talk.turns if t.proposed.reply.text]
    if desk.agent.kind == "planner" or desk.goal.output_schema is not None:
        return None
    files = saved(desk)
    if not texts and not files:
        return None
    if desk.agent.kind == "researcher" or not texts:
        return TaskResult(text=texts[-1] if texts else "", artifacts=files)
    claims = await check(texts[-1], evidence(desk), desk.scorer)
    return TaskResult(text=with_marks(texts[-1], claims), claims=claims, artifacts=files)
