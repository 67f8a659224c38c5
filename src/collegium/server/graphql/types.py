"""The types of the schema. Most are filled from the types of the domain, by the names of their fields."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, NewType, cast

import msgspec
import strawberry
from strawberry.scalars import JSON

from collegium.domain.body import StepProposed
from collegium.domain.errors import UsageError
from collegium.domain.event import Event as StoredEvent
from collegium.domain.report import ReportedUsage, RunReport
from collegium.domain.run import RunState
from collegium.domain.usage import Usage as StoredUsage
from collegium.server.access.page import MOST
from collegium.server.access.questions import shown_of
from collegium.server.graphql.context import Info

Long = NewType("Long", int)
LONG: Final = strawberry.scalar(
    name="Long", description="A whole number of up to 53 bits.", serialize=int, parse_value=int
)
MOST_EVENTS: Final = 1_000


def bounded(limit: int, most: int = MOST) -> int:
    """``limit``. Raises ``UsageError`` for one that no page has."""
    if not 1 <= limit <= most:
        raise UsageError(f"limit={limit} does not do: it is 1 to {most:,}")
    return limit


def plain(value: object) -> Any:
    """``value`` as JSON has it."""
    return msgspec.to_builtins(value, enc_hook=str)


@strawberry.type
class Usage:
    """What was taken."""

    input_tokens: Long
    cached_input_tokens: Long
    output_tokens: Long
    cost_usd: float
    model_calls: Long
    tool_calls: Long


@strawberry.type
class Task:
    """A task as it stands."""

    id: strawberry.ID
    title: str
    capability: str
    depends_on: list[str]
    status: str
    agent: str | None
    attempts: int
    route: str
    reason: str
    seconds: float
    usage: Usage
    asked_by: str | None


@strawberry.type
class Plan:
    """The plan of a run, and where it comes from."""

    tasks: list[Task]
    source: str | None
    template: str | None
    problems: list[str]


@strawberry.type
class Citation:
    """A place in a document that a claim rests on."""

    number: int
    claim: str
    document: str
    chunk_id: str
    start: Long
    end: Long
    quote: str


@strawberry.type
class Answer:
    """What came of a run."""

    text: str
    citations: list[Citation]
    data: JSON | None


@strawberry.type
class File:
    """A file that a run wrote."""

    path: str
    sha256: str
    size_bytes: Long


@strawberry.type
class Event:
    """An event of a run's journal."""

    id: strawberry.ID
    run: strawberry.ID
    seq: Long
    type: str
    at: datetime
    task: str | None
    attempt: int | None

    @strawberry.field
    def body(self) -> JSON:
        """What happened, by its type."""
        return cast("JSON", plain(cast("StoredEvent", self).body))


@strawberry.type
class EventPage:
    """Events in order; ``next`` is the number of the last one."""

    items: list[Event]
    next: str


@strawberry.type
class Passage:
    """A passage of a document that was found; higher scores are better."""

    chunk_id: str
    document: str
    text: str
    start: Long
    end: Long
    score: float


@strawberry.type
class Approval:
    """A question to a person."""

    approval_id: strawberry.ID
    run_id: strawberry.ID
    kind: str
    status: str
    question: str
    answers: list[str]
    requested_at: datetime
    expires_at: datetime | None
    default: str
    task: str | None
    tool: str | None
    arguments: JSON | None
    answer: str | None
    answered_by: str | None
    answered_at: datetime | None

    @strawberry.field
    async def run(self, info: Info) -> Run:
        """The run that asks."""
        return shown(info, await info.context.runs.load(self.run_id))


@strawberry.type
class ApprovalPage:
    """A part of a list; ``next`` is the cursor of what comes behind it."""

    items: list[Approval]
    next: str | None


@strawberry.type
class Run:
    """A run as it stands."""

    state: strawberry.Private[RunState]
    report: strawberry.Private[RunReport]
    id: strawberry.ID
    status: str
    goal: str
    submitted_at: datetime
    finished_at: datetime | None
    continues: str | None
    project: str
    seconds: float
    error: str | None
    reason: str
    missing: list[str]
    seq: Long

    @strawberry.field
    def usage(self) -> Usage:
        """What it took."""
        return cast("Usage", self.report.usage)

    @strawberry.field
    def answer(self) -> Answer | None:
        """What came of it."""
        return cast("Answer | None", self.report.answer)

    @strawberry.field
    def plan(self) -> Plan:
        """Its tasks."""
        return cast("Plan", self.report.plan)

    @strawberry.field
    def tasks(self, status: str | None = None) -> list[Task]:
        """Its tasks as they stand, those of one status alone."""
        return cast("list[Task]", [one for one in self.report.plan.tasks if status in (None, one.status)])

    @strawberry.field
    def approvals(self) -> list[Approval]:
        """What it asked people, answered or not."""
        state, goal = self.state, self.state.goal
        is_over = state.finished is not None or state.cancel is not None
        found = [
            shown_of(one, run=state.id, goal=goal.text, principal=goal.principal, is_over=is_over)
            for one in state.approvals.values()
        ]
        return cast("list[Approval]", found)

    @strawberry.field
    async def files(self, info: Info) -> list[File]:
        """What it wrote so far."""
        return cast("list[File]", list(await info.context.caller.runs.files(self.id)))

    @strawberry.field
    async def events(self, info: Info, after: int = 0, limit: int = 50) -> EventPage:
        """Its events with ``seq > after``."""
        found = await info.context.caller.runs.events(self.id, after=_after(after), limit=bounded(limit, MOST_EVENTS))
        return EventPage(items=cast("list[Event]", list(found)), next=str(found[-1].seq if found else after))

    @strawberry.field
    async def steps(self, info: Info, task: str | None = None, after: int = 0, limit: int = 50) -> EventPage:
        """What its agents decided to do next, among the next ``limit`` events."""
        found = await info.context.caller.runs.events(self.id, after=_after(after), limit=bounded(limit, MOST_EVENTS))
        steps = [one for one in found if isinstance(one.body, StepProposed) and task in (None, one.task)]
        return EventPage(items=cast("list[Event]", steps), next=str(found[-1].seq if found else after))

    @strawberry.field
    async def documents(self, info: Info, after: str | None = None, limit: int = 50) -> DocumentPage:
        """What it was given to read."""
        found = await info.context.caller.collections.documents(self.id, after=after, limit=bounded(limit))
        return cast("DocumentPage", found)

    @strawberry.field
    async def search(self, info: Info, query: str, limit: int = 8) -> list[Passage]:
        """The best passages in what it was given to read."""
        if not 1 <= len(query) <= 2_000:
            raise UsageError("query has 1 to 2,000 characters")
        return [
            Passage(
                chunk_id=one.chunk.id,
                document=one.chunk.document,
                text=one.chunk.text,
                start=Long(one.chunk.start),
                end=Long(one.chunk.end),
                score=one.score,
            )
            for one in await info.context.caller.documents.search(self.id, query, limit=bounded(limit, 50))
        ]


@strawberry.type
class RunPage:
    """A part of a list; ``next`` is the cursor of what comes behind it."""

    items: list[Run]
    next: str | None


@strawberry.type
class Document:
    """A document that a run was given to read."""

    path: str
    size_bytes: Long


@strawberry.type
class DocumentPage:
    """A part of a list; ``next`` is the cursor of what comes behind it."""

    items: list[Document]
    next: str | None


def shown(info: Info, state: RunState) -> Run:
    """The run as the schema has it."""
    report = info.context.caller.runs.shown(state)
    return Run(
        state=state,
        report=report,
        id=strawberry.ID(state.id),
        status=report.status,
        goal=report.goal,
        submitted_at=state.submitted_at,
        finished_at=state.finished_at,
        continues=state.goal.continues,
        project=state.goal.project,
        seconds=report.seconds,
        error=report.error,
        reason=report.reason,
        missing=list(report.missing),
        seq=Long(state.seq),
    )


def reported(taken: StoredUsage) -> ReportedUsage:
    """``taken`` as reports have it."""
    return ReportedUsage(
        input_tokens=taken.input_tokens,
        cached_input_tokens=taken.cached_input_tokens,
        output_tokens=taken.output_tokens,
        cost_usd=float(taken.cost_usd),
        model_calls=taken.model_calls,
        tool_calls=taken.tool_calls,
    )


def _after(after: int) -> int:
    if after < 0:
        raise UsageError(f"after={after} does not do: it is the number of an event, or 0")
    return after


def text_of(value: str, name: str, most: int) -> str:
    """``value``. Raises ``UsageError`` for one that is too long."""
    if len(value) > most:
        raise UsageError(f"{name} has {len(value):,} characters and the cap is {most:,}")
    return value


Id = Annotated[strawberry.ID, strawberry.argument(description="An id as lists give it.")]
