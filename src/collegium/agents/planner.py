"""The planner: a goal becomes a plan that may run."""

from __future__ import annotations

from typing import Any

import msgspec

from collegium.agents import templates
from collegium.agents.desk import Desk, Setback
from collegium.domain.chat import ChatMessage, Json
from collegium.domain.errors import AnswerRefused, InvalidPlan, ModelReplyError
from collegium.domain.plan import Plan, Task, validate
from collegium.domain.result import TaskResult

MAX_LISTED = 60


class _Drafted(msgspec.Struct, frozen=True):
    """A task as a model writes it."""

    id: str
    title: str
    capability: str
    instructions: str = ""
    depends_on: tuple[str, ...] = ()


class _DraftedPlan(msgspec.Struct, frozen=True):
    tasks: tuple[_Drafted, ...]


async def plan(desk: Desk) -> TaskResult:
    """A plan by the model where it can plan: checked, repaired once with what was wrong, else one of the library.

    After a setback it is what remains to be done, planned around what has failed: no plan of the library knows of that,
    so ``AnswerRefused`` is raised when none comes of it.
    """
    setback = desk.setback
    if setback is None and not desk.model.profile.can_plan:
        return TaskResult(plan=templates.choose(desk.goal))
    text = _describe(desk) if setback is None else f"{_describe(desk)}\n\n{_describe_setback(desk, setback)}"
    added: tuple[ChatMessage, ...] = (
        ChatMessage(role="system", text=desk.agent.prompt),
        ChatMessage(role="user", text=text),
    )
    problems: list[str] = []
    for _ in range(2):
        reply = await desk.talk.ask(*added, output_schema=_schema(desk.capabilities), max_output_tokens=2048)
        try:
            new = _checked(desk, _parse(reply.text))
        except (InvalidPlan, ModelReplyError) as error:
            problems.append(error.message)
            added = (ChatMessage(role="user", text=f"This plan cannot run: {error.message}. Write it again."),)
        else:
            return TaskResult(plan=new, notes=tuple(problems))
    if setback is not None:
        raise AnswerRefused(f"no plan around {', '.join(setback.failed)} came of two tries: {problems[-1]}")
    return TaskResult(plan=templates.choose(desk.goal), notes=tuple(problems))


def _checked(desk: Desk, drafted: Plan) -> Plan:
    """What ``drafted`` adds to the tasks that stay. Raises ``InvalidPlan`` where the two together cannot run."""
    kept = () if desk.setback is None else desk.setback.kept
    names = {t.id for t in kept}
    new = tuple(t for t in drafted.tasks if t.id not in names)
    if desk.setback is not None and not new:
        raise InvalidPlan(("it has no new tasks",))
    validate(Plan(tasks=(*kept, *new)), capabilities=desk.capabilities, limit_tasks=desk.goal.limits.tasks)
    return Plan(tasks=new)


def _describe_setback(desk: Desk, setback: Setback) -> str:
    kept = [f"- {t.id} ({t.title}): {setback.results.get(t.id) or 'under way'}" for t in setback.kept]
    failed = [f"- {name}: {why}" for name, why in setback.failed.items()]
    parts = ["The plan so far did not work out. These tasks failed; find another way:", *failed]
    if kept:
        parts += ["", "These tasks stay. Do not list them again; new tasks may depend on their ids:", *kept]
    if desk.done:
        parts += ["", "This has been done to the world and must not be done again:", *(f"- {d}" for d in desk.done)]
    parts += [
        "",
        "List only the new tasks that are still needed for the goal, the one that writes the answer included.",
    ]
    return "\n".join(parts)


def _describe(desk: Desk) -> str:
    paths = [f.path for f in desk.goal.files]
    listed = "\n".join(f"- {p}" for p in paths[:MAX_LISTED]) or "- none"
    more = f"\n- and {len(paths) - MAX_LISTED} more" if len(paths) > MAX_LISTED else ""
    earlier = f"\n\nIt goes on from an earlier answer:\n{desk.earlier}" if desk.earlier else ""
    offered = ", ".join(c for c in desk.capabilities if c not in ("plan", "oversee"))
    return f"Goal: {desk.question}{earlier}\n\nDocuments:\n{listed}{more}\n\nCapabilities: {offered}"


def _parse(text: str) -> Plan:
    try:
        drafted = msgspec.json.decode(text, type=_DraftedPlan)
    except msgspec.MsgspecError as error:
        raise ModelReplyError(f"the plan is not the JSON that was asked for: {error}") from error
    return Plan(tasks=tuple(_task(d, drafted.tasks) for d in drafted.tasks))


def _task(drafted: _Drafted, tasks: tuple[_Drafted, ...]) -> Task:
    # A writer goes on with what there is: one research task that failed must not strand the rest.
    gathers = drafted.capability == "write" and len(drafted.depends_on) > 1
    return Task(
        id=drafted.id.strip(),
        title=drafted.title.strip(),
        capability=drafted.capability,
        instructions=drafted.instructions,
        depends_on=drafted.depends_on,
        needs="any" if gathers else "all",
    )


def _schema(capabilities: tuple[str, ...]) -> Json:
    text: dict[str, Any] = {"type": "string"}
    task = {
        "type": "object",
        "properties": {
            "id": text,
            "title": text,
            "capability": {"type": "string", "enum": [c for c in capabilities if c not in ("plan", "oversee")]},
            "instructions": text,
            "depends_on": {"type": "array", "items": text},
        },
        "required": ["id", "title", "capability", "instructions", "depends_on"],
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "properties": {"tasks": {"type": "array", "items": task}},
        "required": ["tasks"],
        "additionalProperties": False,
    }
