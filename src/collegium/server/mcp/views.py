"""What tools of MCP answer: small documents for a model to read, with the schemas that they keep to."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from collegium.domain.chat import Json
from collegium.domain.document import Passage
from collegium.domain.event import Event
from collegium.domain.head import FINISHED, RunStatus
from collegium.domain.report import ReportedQuestion, RunReport
from collegium.runtime.inbox import WORDS, YES_NO, Question
from collegium.server.live.snapshots import RunSummary


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a part of the answer comes from; ``number`` is its mark in the text, ``[number]``."""

    number: int
    claim: str
    document: str
    start: int
    end: int
    quote: str


class TaskLine(msgspec.Struct, frozen=True, kw_only=True):
    """A task of the plan, and how far it is."""

    id: str
    title: str
    status: str
    agent: str | None


class QuestionLine(msgspec.Struct, frozen=True, kw_only=True):
    """What a run asks a person; ``answers`` are the words that answer it."""

    approval: str
    kind: str
    question: str
    tool: str | None
    arguments: Json | None
    expires_at: datetime | None
    answers: tuple[str, ...]


class RunShown(msgspec.Struct, frozen=True, kw_only=True):
    """A run as it stands; ``is_over`` says that nothing will change any more."""

    run_id: str
    status: RunStatus
    is_over: bool
    goal: str
    answer: str | None
    data: object | None
    citations: tuple[Place, ...]
    tasks: tuple[TaskLine, ...]
    questions: tuple[QuestionLine, ...]
    missing: tuple[str, ...]
    error: str | None
    reason: str
    cost_usd: float
    seconds: float


class Submitted(msgspec.Struct, frozen=True, kw_only=True):
    """A run that was accepted: it is never lost from now on."""

    run_id: str


class RunsShown(msgspec.Struct, frozen=True, kw_only=True):
    """A page of runs, the newest first; ``next`` is the cursor of those behind it."""

    runs: Sequence[RunSummary]
    next: str | None


class EventLine(msgspec.Struct, frozen=True, kw_only=True):
    """One fact of a run; ``seq`` counts from 1 without gaps."""

    seq: int
    type: str
    at: datetime
    task: str | None
    body: Json


class EventsShown(msgspec.Struct, frozen=True, kw_only=True):
    """Events in order; ask again with ``after`` set to ``next`` for later ones."""

    events: tuple[EventLine, ...]
    next: int


class FoundPassage(msgspec.Struct, frozen=True, kw_only=True):
    """A passage of a run's documents: characters ``start`` to ``end`` of the document's text."""

    document: str
    start: int
    end: int
    text: str
    score: float


class Passages(msgspec.Struct, frozen=True, kw_only=True):
    """What was found, the best first."""

    passages: tuple[FoundPassage, ...]


class OpenQuestion(msgspec.Struct, frozen=True, kw_only=True):
    """A question that waits for a person, with the run that asks."""

    run_id: str
    goal: str
    question: QuestionLine


class OpenQuestions(msgspec.Struct, frozen=True, kw_only=True):
    """Questions that wait; ``next`` is the cursor of those behind them."""

    questions: tuple[OpenQuestion, ...]
    next: str | None


def answers_to(kind: str) -> tuple[str, ...]:
    """The words that answer a question of this kind."""
    return WORDS.get(kind, YES_NO)


def shown(report: RunReport) -> RunShown:
    """``report`` without what a model that reads it has no use for."""
    answer = report.answer
    return RunShown(
        run_id=report.run_id,
        status=report.status,
        is_over=report.status in FINISHED,
        goal=report.goal,
        answer=None if answer is None else answer.text,
        data=None if answer is None else answer.data,
        citations=()
        if answer is None
        else tuple(
            Place(number=c.number, claim=c.claim, document=c.document, start=c.start, end=c.end, quote=c.quote)
            for c in answer.citations
        ),
        tasks=tuple(TaskLine(id=t.id, title=t.title, status=t.status, agent=t.agent) for t in report.plan.tasks),
        questions=tuple(map(_question, report.questions)),
        missing=report.missing,
        error=report.error,
        reason=report.reason,
        cost_usd=report.usage.cost_usd,
        seconds=report.seconds,
    )


def line(event: Event) -> EventLine:
    """An event without its envelope's seals."""
    body: Json = msgspec.to_builtins(event.body, enc_hook=str)
    return EventLine(seq=event.seq, type=event.type, at=event.at, task=event.task, body=body)


def open_question(found: Question) -> OpenQuestion:
    """A question that waits, with the run that asks."""
    request = found.approval.request
    asked = QuestionLine(
        approval=found.approval.id,
        kind=request.kind,
        question=request.question,
        tool=request.tool,
        arguments=request.arguments,
        expires_at=request.expires_at,
        answers=answers_to(request.kind),
    )
    return OpenQuestion(run_id=found.run, goal=found.goal, question=asked)


def passage(found: Passage) -> FoundPassage:
    """A passage without what only machines use."""
    chunk = found.chunk
    return FoundPassage(
        document=chunk.document, start=chunk.start, end=chunk.end, text=chunk.text, score=round(found.score, 4)
    )


def schema(kind: type) -> dict[str, Any]:
    """The JSON Schema of ``kind`` with an object at its root, which older clients ask for."""
    made: dict[str, Any] = msgspec.json.schema(kind, schema_hook=_any)
    definitions: dict[str, Any] = made.get("$defs", {})
    root: dict[str, Any] = definitions.pop(kind.__name__) if "$ref" in made else made
    return {**root, **({"$defs": definitions} if definitions else {})}


def _question(asked: ReportedQuestion) -> QuestionLine:
    return QuestionLine(
        approval=asked.approval,
        kind=asked.kind,
        question=asked.question,
        tool=asked.tool,
        arguments=asked.arguments,
        expires_at=asked.expires_at,
        answers=answers_to(asked.kind),
    )


def _any(kind: type) -> dict[str, Any]:
    return {"description": "Any JSON value."}
