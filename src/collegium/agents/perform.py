"""One task, done: the agent's kind says how, and what is to be handed out is checked first."""

from __future__ import annotations

from dataclasses import replace

from msgspec.structs import replace as replace_struct

from collegium.agents.desk import Desk
from collegium.agents.operator import operate
from collegium.agents.overseer import escalate, judge
from collegium.agents.planner import plan
from collegium.agents.researcher import best, look, research
from collegium.agents.writer import Judged, settle, write
from collegium.domain.errors import UsageError
from collegium.domain.policy import Judgement
from collegium.domain.result import TaskResult

LOCAL_PASSAGE_TOKENS = 700
"""About ten seconds of reading for a model of 1.5 billion weights on two cores."""


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
            result, judgement = await settle(desk, done.text, await judge(desk, done.text, may_revise=False))
            escalate(desk, result, judgement)
            return result, judgement
        case "writer":
            return await write(await _with_evidence(desk), judged)
        case "overseer":
            raise UsageError(f"agent {desk.agent.name!r} checks answers and is given no tasks of its own")


async def _with_evidence(desk: Desk) -> Desk:
    """The desk as a writer needs it.

    A plan may have a writer write without anybody having looked into the documents: then it looks itself. A model on
    this machine's own processor reads slowly: it is given the few passages that answer best.
    """
    evidence = desk.evidence
    if not evidence and desk.retriever.documents:
        evidence = (await look(desk)).evidence
    if desk.model.profile.is_local and desk.model.profile.can_write:
        evidence = await best(desk, evidence, limit_tokens=LOCAL_PASSAGE_TOKENS)
    if evidence == desk.evidence:
        return desk
    plain = {name: replace_struct(r, evidence=()) for name, r in desk.inputs.items()}
    return replace(desk, inputs={**plain, "documents": TaskResult(evidence=evidence)})
