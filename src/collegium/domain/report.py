"""The report of a run: what ``collegium run --json`` prints and the API gives."""

from __future__ import annotations

from datetime import datetime

import msgspec

from collegium.domain.candidate import Candidate
from collegium.domain.chat import Json
from collegium.domain.document import Citation, SkippedFile
from collegium.domain.head import RunStatus
from collegium.domain.plan import PLAN_TASK
from collegium.domain.policy import ActionClaim, ClaimVerdict, Origin
from collegium.domain.result import Answer
from collegium.domain.run import Approval, RunState
from collegium.domain.task import TaskState
from collegium.domain.tool import Artifact
from collegium.domain.usage import Usage


class CitedPlace(msgspec.Struct, frozen=True, kw_only=True):
    """A citation with the text of the claim it supports; ``number`` is its mark in the answer's text, ``[number]``."""

    number: int
    claim: str
    document: str
    chunk_id: str
    start: int
    end: int
    quote: str


class ReportedClaim(msgspec.Struct, frozen=True, kw_only=True):
    """A claim with its verdict and places."""

    text: str
    verdict: ClaimVerdict
    score: float
    origin: Origin
    citations: tuple[Citation, ...]


class ReportedAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The answer's text and the places it rests on; ``data`` for runs with an output schema."""

    text: str
    citations: tuple[CitedPlace, ...]
    data: object | None = None


class ReportedTask(msgspec.Struct, frozen=True, kw_only=True):
    """A task as it stands. ``seconds`` run from its first start to its end, or to now.

    ``route`` says why it went to ``agent``, ``candidates`` with which figures. ``asked_by``: the task that asks a
    colleague with it; None for a task of the plan.
    """

    id: str
    title: str
    capability: str
    depends_on: tuple[str, ...]
    status: str
    agent: str | None
    attempts: int
    route: str
    candidates: tuple[Candidate, ...]
    reason: str
    seconds: float
    usage: ReportedUsage
    asked_by: str | None


class ReportedUsage(msgspec.Struct, frozen=True, kw_only=True):
    """What the run took; every field is always there.

    ``cost_usd`` is a number for reading: the journal has it exact.
    """

    input_tokens: int
    cached_input_tokens: int
    output_tokens: int
    cost_usd: float
    model_calls: int
    tool_calls: int


class ReportedPlan(msgspec.Struct, frozen=True, kw_only=True):
    """The plan and where it comes from; ``asks`` counts the tasks with which agents ask colleagues."""

    tasks: tuple[ReportedTask, ...]
    source: str | None
    template: str | None
    problems: tuple[str, ...]
    asks: int


class Oversight(msgspec.Struct, frozen=True, kw_only=True):
    """What the overseer says of the answer."""

    claims: tuple[ReportedClaim, ...]
    actions: tuple[ActionClaim, ...]


class ReportedFiles(msgspec.Struct, frozen=True, kw_only=True):
    """The input files: how many were given, and which could not be used."""

    given: int
    skipped: tuple[SkippedFile, ...]


class ReportedQuestion(msgspec.Struct, frozen=True, kw_only=True):
    """What the run asks a person; ``kind`` is ``plan``, ``tool``, ``verdict`` or ``outcome``."""

    approval: str
    kind: str
    task: str | None
    question: str
    tool: str | None
    arguments: Json | None
    asked_at: datetime
    expires_at: datetime | None
    default: str


class RunReport(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a user wants to know of a run."""

    run_id: str
    status: RunStatus
    goal: str
    answer: ReportedAnswer | None
    plan: ReportedPlan
    oversight: Oversight
    artifacts: tuple[Artifact, ...]
    files: ReportedFiles
    questions: tuple[ReportedQuestion, ...]
    missing: tuple[str, ...]
    error: str | None
    reason: str
    usage: ReportedUsage
    seconds: float


def report(state: RunState, now: datetime) -> RunReport:
    """The report of ``state``; for a run that goes on, as it stands at ``now``."""
    finished = state.finished
    answer = finished.answer if finished is not None else None
    end = state.finished_at or now
    return RunReport(
        run_id=state.id,
        status=state.status,
        goal=state.goal.text,
        answer=None if answer is None else _answer(answer),
        plan=ReportedPlan(
            tasks=tuple(_task(t, end) for t in state.tasks.values() if t.task.id != PLAN_TASK),
            source=state.plan_source,
            template=None if state.plan is None else state.plan.template,
            problems=state.plan_problems,
            asks=sum(t.asked is not None for t in state.tasks.values()),
        ),
        oversight=Oversight(
            claims=() if answer is None else _claims(answer), actions=() if answer is None else answer.actions
        ),
        artifacts=() if answer is None else answer.artifacts,
        files=ReportedFiles(given=len(state.goal.files) + len(state.goal.skipped), skipped=_skipped(state)),
        questions=() if finished is not None else tuple(_question(a) for a in state.open_approvals),
        missing=() if finished is None else finished.missing,
        error=None if finished is None else finished.error,
        reason="" if finished is None else finished.reason,
        usage=_usage(state.usage),
        seconds=round((end - state.submitted_at).total_seconds(), 3),
    )


def _question(approval: Approval) -> ReportedQuestion:
    request = approval.request
    return ReportedQuestion(
        approval=approval.id,
        kind=request.kind,
        task=approval.task,
        question=request.question,
        tool=request.tool,
        arguments=request.arguments,
        asked_at=approval.requested_at,
        expires_at=request.expires_at,
        default=request.default,
    )


def _answer(answer: Answer) -> ReportedAnswer:
    texts = [c.text for c in answer.claims]
    return ReportedAnswer(
        text=answer.text,
        citations=tuple(
            CitedPlace(
                number=number,
                claim="" if q.claim is None else texts[q.claim],
                document=q.document,
                chunk_id=q.chunk_id,
                start=q.start,
                end=q.end,
                quote=q.quote,
            )
            for number, q in enumerate(answer.citations, start=1)
        ),
        data=answer.data,
    )


def _claims(answer: Answer) -> tuple[ReportedClaim, ...]:
    return tuple(
        ReportedClaim(text=c.text, verdict=c.verdict, score=round(c.score, 4), origin=c.origin, citations=c.citations)
        for c in answer.claims
    )


def _task(task: TaskState, end: datetime) -> ReportedTask:
    started, settled = task.started_at, task.settled_at or end
    return ReportedTask(
        id=task.task.id,
        title=task.task.title,
        capability=task.task.capability,
        depends_on=task.task.depends_on,
        status=task.status,
        agent=task.agent,
        attempts=task.attempt,
        route=task.route,
        candidates=task.candidates,
        reason=task.reason,
        seconds=0.0 if started is None else round((settled - started).total_seconds(), 3),
        usage=_usage(task.usage),
        asked_by=None if task.asked is None else task.asked.by,
    )


def _usage(usage: Usage) -> ReportedUsage:
    return ReportedUsage(
        input_tokens=usage.input_tokens,
        cached_input_tokens=usage.cached_input_tokens,
        output_tokens=usage.output_tokens,
        cost_usd=float(usage.cost_usd),
        model_calls=usage.model_calls,
        tool_calls=usage.tool_calls,
    )


def _skipped(state: RunState) -> tuple[SkippedFile, ...]:
    """Files that were not taken at the start, and those that research found it could not use."""
    paths = {f.path for f in state.goal.files}
    found = {f.path: f for f in state.goal.skipped}
    for task in state.tasks.values():
        for note in task.result.notes if task.result is not None else ():
            path, _, reason = note.partition(": ")
            if path in paths:
                found.setdefault(path, SkippedFile(path=path, reason=reason))
    return tuple(found[p] for p in sorted(found))
