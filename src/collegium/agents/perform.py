"""One task, done: the agent's kind says how, and what is to be handed out is checked first."""

from __future__ import annotations

from dataclasses import replace

from collegium.agents.desk import Desk
from collegium.agents.operator import operate
from collegium.agents.overseer import judge
from collegium.agents.planner import plan
from collegium.agents.researcher import look, research
from collegium.agents.writer import Judged, settle, write
from collegium.domain.errors import UsageError
from collegium.domain.policy import Judgement
from collegium.domain.result import TaskResult


async def perform(desk: Desk, judged: Judged) -> tuple[TaskResult, Judgement | None]:
    """The result of the desk's task, and what the overseer says of it where it has claims.

    Raises ``CollegiumError`` for whatever stops it.
    """
    match desk.agent.kind:
        case "planner":
            return await plan(desk), None
        case "researcher":
            return await research(desk), None
        case "operator":
            done = await operate(desk)
            return await settle(desk, done.text, await judge(desk, done.text, may_revise=False))
        case "writer":
            return await write(await _with_evidence(desk), judged)
        case "overseer":
            raise UsageError(f"agent {desk.agent.name!r} checks answers and is given no tasks of its own")


async def _with_evidence(desk: Desk) -> Desk:
    """The desk with evidence: a plan may have a writer write without anybody having looked into the documents."""
    if desk.evidence or not desk.retriever.documents:
        return desk
    return replace(desk, inputs={**desk.inputs, "documents": await look(desk)})
