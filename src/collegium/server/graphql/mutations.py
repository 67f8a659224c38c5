"""What can be done."""

from __future__ import annotations

from typing import Any, Literal, cast

import msgspec
import strawberry
from strawberry.scalars import JSON

from collegium.domain.errors import InvalidPlan, UsageError
from collegium.domain.goal import MAX_GOAL_CHARS
from collegium.domain.message import PRIORITIES
from collegium.domain.plan import Plan as StoredPlan
from collegium.runtime.inbox import MAX_TEXT_CHARS
from collegium.runtime.stops import Kind
from collegium.runtime.uploads import MOST_FILES
from collegium.server.access.runs import Submission
from collegium.server.graphql.context import Info
from collegium.server.graphql.installation import Schedule, Stop
from collegium.server.graphql.types import Id, Run, shown, text_of

_MOST_REASON = 2_000
_MOST_NAME = 300
_KINDS = ("tenant", "run", "agent", "tool")


@strawberry.input
class NewRun:
    """A goal, and how it is to be reached."""

    goal: str
    files: list[str] = strawberry.field(default_factory=list, description="Ids of uploads.")
    model: str | None = None
    priority: str = "normal"
    plan: JSON | None = None
    plan_only: bool = False
    review_plan: bool = False
    output_schema: JSON | None = None
    continues: str | None = None
    tools: list[str] = strawberry.field(default_factory=list)
    project: str = ""
    idempotency_key: str | None = None


@strawberry.type
class Mutation:
    """What the caller may do."""

    @strawberry.mutation
    async def submit(self, info: Info, run: NewRun) -> Run:
        """Submit a goal; once this has answered, the run is never lost."""
        caller = info.context.caller
        made = await caller.runs.submit(await _submission(info, run), key=run.idempotency_key)
        return shown(info, await caller.runs.state(made))

    @strawberry.mutation
    async def cancel(self, info: Info, run: Id, reason: str = "") -> Run:
        """Ask for a run's end."""
        reason = text_of(reason, "reason", _MOST_REASON)
        return shown(info, await info.context.caller.runs.cancel(run, reason=reason))

    @strawberry.mutation
    async def resume(self, info: Info, run: Id, outcome: str | None = None, reason: str = "") -> Run:
        """Go on with a run where it was stopped; ``outcome``: done, not-done or retry."""
        if outcome not in (None, "done", "not-done", "retry"):
            raise UsageError("outcome is done, not-done or retry")
        reason = text_of(reason, "reason", _MOST_REASON)
        return shown(info, await info.context.caller.runs.resume(run, outcome=outcome, reason=reason))

    @strawberry.mutation
    async def fork(
        self, info: Info, run: Id, at: int, model: str | None = None, plan: JSON | None = None, effects: str = "ask"
    ) -> Run:
        """Go on from any event of a run, as a new one; ``effects``: ask or allow."""
        if effects not in ("ask", "allow") or at < 1:
            raise UsageError("effects is ask or allow, and at the number of an event, from 1")
        caller, how = info.context.caller, cast("Literal['ask', 'allow']", effects)
        made = await caller.runs.fork(run, at=at, model=_name(model), plan=_plan(plan), effects=how)
        return shown(info, await caller.runs.state(made))

    @strawberry.mutation
    async def say(self, info: Info, run: Id, text: str) -> Run:
        """Add to what a run is to do."""
        return shown(info, await info.context.caller.runs.say(run, text_of(text, "text", MAX_TEXT_CHARS)))

    @strawberry.mutation
    async def feedback(self, info: Info, run: Id, is_good: bool, note: str = "") -> bool:
        """Say what you think of a run that has ended."""
        await info.context.caller.runs.feedback(run, is_good=is_good, note=text_of(note, "note", 10_000))
        return True

    @strawberry.mutation
    async def answer(self, info: Info, approval: Id, answer: str, reason: str = "", plan: JSON | None = None) -> Run:
        """Answer a question, once and for all; the run that asked."""
        caller, reason = info.context.caller, text_of(reason, "reason", _MOST_REASON)
        answer = text_of(answer, "answer", 100)
        run = await caller.questions.answer(approval, answer, reason=reason, plan=_plan(plan))
        return shown(info, await caller.runs.state(run))

    @strawberry.mutation
    async def pause_schedule(self, info: Info, schedule: Id, reason: str = "") -> Schedule:
        """Let a schedule rest."""
        reason = text_of(reason, "reason", _MOST_REASON)
        return cast("Schedule", await info.context.caller.schedules.pause(schedule, reason=reason))

    @strawberry.mutation
    async def resume_schedule(self, info: Info, schedule: Id) -> Schedule:
        """Let a schedule go on with its next time."""
        return cast("Schedule", await info.context.caller.schedules.resume(schedule))

    @strawberry.mutation
    async def remove_schedule(self, info: Info, schedule: Id) -> bool:
        """Remove a schedule; its runs stay."""
        await info.context.caller.schedules.remove(schedule)
        return True

    @strawberry.mutation
    async def stop(self, info: Info, kind: str, name: str, reason: str = "") -> Stop:
        """Stop a tenant, a run, an agent or a tool, everywhere."""
        reason = text_of(reason, "reason", _MOST_REASON)
        return cast("Stop", await info.context.caller.stops.put(_kind(kind), _name(name) or "", reason=reason))

    @strawberry.mutation
    async def start(self, info: Info, kind: str, name: str) -> bool:
        """Let it go on; whether it was stopped."""
        return (await info.context.caller.stops.remove(_kind(kind), _name(name) or "")).was_stopped


async def _submission(info: Info, run: NewRun) -> Submission:
    """The goal as the caller hands it on. Raises ``UsageError`` and ``InvalidPlan``."""
    if run.plan_only and run.review_plan:
        raise UsageError("planOnly and reviewPlan exclude each other: the first ends with the plan")
    if run.priority not in PRIORITIES or len(run.files) > MOST_FILES or len(run.tools) > 100:
        raise UsageError(f"priority is one of {', '.join(PRIORITIES)}; {MOST_FILES} files and 100 tools at most")
    if not run.goal.strip() or not 1 <= len(run.idempotency_key or "-") <= 200:
        raise UsageError("goal says something, and idempotencyKey has 1 to 200 characters")
    if run.output_schema is not None and not isinstance(run.output_schema, dict):
        raise UsageError("outputSchema is an object")
    return Submission(
        goal=text_of(run.goal, "goal", MAX_GOAL_CHARS),
        files=await info.context.caller.uploads.files([str(_name(one)) for one in run.files]),
        model=_name(run.model),
        priority=PRIORITIES[run.priority],
        plan=_plan(run.plan),
        is_plan_only=run.plan_only,
        is_plan_reviewed=run.review_plan,
        output_schema=cast("Any", run.output_schema),
        continues=_name(run.continues),
        tools=tuple(str(_name(one)) for one in run.tools),
        project=str(_name(run.project)),
    )


def _plan(given: object) -> StoredPlan | None:
    if given is None:
        return None
    try:
        return msgspec.convert(given, StoredPlan)
    except msgspec.ValidationError as error:
        raise InvalidPlan((str(error),)) from error


def _name(given: str | None) -> str | None:
    return None if given is None else text_of(given, "a name", _MOST_NAME)


def _kind(given: str) -> Kind:
    if given not in _KINDS:
        raise UsageError(f"kind is one of {', '.join(_KINDS)}")
    return cast("Kind", given)
