"""The tools of MCP: their arguments, what they answer, and what they do with the caller's rights."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final, Generic, Literal, NamedTuple, TypeVar

import msgspec
from pydantic import BaseModel, ConfigDict, Field

from collegium.domain.goal import MAX_GOAL_CHARS
from collegium.domain.head import RunStatus
from collegium.domain.message import PRIORITIES
from collegium.server.access.access import Access
from collegium.server.access.runs import Submission
from collegium.server.mcp import views as v
from collegium.server.waiting import until_it_rests

Id = Annotated[str, Field(min_length=1, max_length=100)]
Cursor = Annotated[str | None, Field(max_length=500, description="`next` of the page before.")]
MAX_WAIT_S: Final = 60.0


class _Arguments(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Submit(_Arguments):
    """A goal, and how it is to be reached."""

    goal: Annotated[str, Field(min_length=1, max_length=MAX_GOAL_CHARS, description="What is wanted, in words.")]
    idempotency_key: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=200,
            description="Any text of your own. Submit again with the same one after a broken connection: it is the "
            "same run, never a second one.",
        ),
    ] = None
    continues: Annotated[
        str | None, Field(max_length=100, description="A run to ask on from: its answer and files are known.")
    ] = None
    priority: Literal["urgent", "high", "normal", "low"] = "normal"
    plan_only: Annotated[bool, Field(description="Make the plan and end.")] = False
    review_plan: Annotated[bool, Field(description="Ask a person before the plan is followed.")] = False


class OneRun(_Arguments):
    """Names a run."""

    run_id: Id


class Wait(OneRun):
    """Which run, and how long at most."""

    timeout_s: Annotated[float, Field(gt=0, le=MAX_WAIT_S)] = 30.0


class ListRuns(_Arguments):
    """Which runs."""

    status: Annotated[list[RunStatus], Field(max_length=9, description="Only these; empty for all.")] = []
    after: Cursor = None
    limit: Annotated[int, Field(ge=1, le=100)] = 20


class ReadEvents(OneRun):
    """Which events."""

    after: Annotated[int, Field(ge=0, description="Only those with a larger seq.")] = 0
    limit: Annotated[int, Field(ge=1, le=200)] = 50


class Cancel(OneRun):
    """Which run, and why."""

    reason: Annotated[str, Field(max_length=2_000)] = ""


class Search(OneRun):
    """What is searched for."""

    query: Annotated[str, Field(min_length=1, max_length=2_000)]
    limit: Annotated[int, Field(ge=1, le=50)] = 8


class ListApprovals(_Arguments):
    """Which page."""

    after: Cursor = None
    limit: Annotated[int, Field(ge=1, le=100)] = 50


class Answer(_Arguments):
    """The answer to a question."""

    approval: Annotated[str, Field(min_length=1, max_length=100, description="Id of the question.")]
    answer: Annotated[
        Literal["approve", "reject", "done", "not-done", "retry"], Field(description="One of its `answers`.")
    ]
    reason: Annotated[str, Field(max_length=2_000)] = ""


A = TypeVar("A", bound=_Arguments)


class Tool(NamedTuple, Generic[A]):
    """A tool: ``call`` does it for the caller.

    ``is_reading``: nothing is changed. ``is_repeatable``: done twice is as done once. ``is_final``: what it does
    cannot be taken back.
    """

    name: str
    title: str
    description: str
    takes: type[A]
    gives: type[msgspec.Struct]
    call: Callable[[Access, A], Awaitable[msgspec.Struct]]
    is_reading: bool = True
    is_repeatable: bool = True
    is_final: bool = False


async def _submit(access: Access, asked: Submit) -> v.Submitted:
    wanted = Submission(
        goal=asked.goal,
        continues=asked.continues,
        priority=PRIORITIES[asked.priority],
        is_plan_only=asked.plan_only,
        is_plan_reviewed=asked.review_plan,
    )
    return v.Submitted(run_id=await access.runs.submit(wanted, key=asked.idempotency_key))


async def _list(access: Access, asked: ListRuns) -> v.RunsShown:
    page = await access.runs.page(statuses=asked.status, after=asked.after, limit=asked.limit)
    return v.RunsShown(runs=page.items, next=page.next)


async def _read(access: Access, asked: OneRun) -> v.RunShown:
    return v.shown(await access.runs.report(asked.run_id))


async def _wait(access: Access, asked: Wait) -> v.RunShown:
    return v.shown(await until_it_rests(access, asked.run_id, within_s=asked.timeout_s))


async def _events(access: Access, asked: ReadEvents) -> v.EventsShown:
    events = await access.runs.events(asked.run_id, after=asked.after, limit=asked.limit)
    return v.EventsShown(events=tuple(map(v.line, events)), next=events[-1].seq if events else asked.after)


async def _cancel(access: Access, asked: Cancel) -> v.RunShown:
    await access.runs.cancel(asked.run_id, reason=asked.reason)
    return v.shown(await access.runs.report(asked.run_id))


async def _search(access: Access, asked: Search) -> v.Passages:
    found = await access.documents.search(asked.run_id, asked.query, limit=asked.limit)
    return v.Passages(passages=tuple(map(v.passage, found)))


async def _approvals(access: Access, asked: ListApprovals) -> v.OpenQuestions:
    page = await access.questions.page(after=asked.after, limit=asked.limit)
    return v.OpenQuestions(questions=tuple(map(v.open_question, page.items)), next=page.next)


async def _answer(access: Access, asked: Answer) -> v.RunShown:
    run = await access.questions.answer(asked.approval, asked.answer, reason=asked.reason)
    return v.shown(await access.runs.report(run))


TOOLS: Final[tuple[Tool[Any], ...]] = (
    Tool(
        "submit_goal",
        "Submit a goal",
        "Hands a goal to the team of agents and returns the id of its run at once; the work goes on by itself. "
        "Then wait_for_run.",
        Submit,
        v.Submitted,
        _submit,
        is_reading=False,
        is_repeatable=False,
    ),
    Tool(
        "wait_for_run",
        "Wait for a run",
        "Returns the run once it has ended or asks a person something, or as it stands when the time is over: "
        "then call it again. It costs nothing and changes nothing.",
        Wait,
        v.RunShown,
        _wait,
    ),
    Tool("read_run", "Read a run", "Returns a run as it stands: its answer, tasks and questions.", OneRun, v.RunShown,
         _read),
    Tool("list_runs", "List runs", "Lists runs, the newest first.", ListRuns, v.RunsShown, _list),
    Tool("read_events", "Read events", "Returns what happened in a run, in order, as its journal has it.", ReadEvents,
         v.EventsShown, _events),
    Tool("search_documents", "Search a run's documents", "Finds passages in the documents that a run was given.",
         Search, v.Passages, _search),
    Tool("list_approvals", "List questions", "Lists what runs ask a person and wait for.", ListApprovals,
         v.OpenQuestions, _approvals),
    Tool(
        "answer_approval",
        "Answer a question",
        "Answers what a run asks a person, once and for all. Only say what the person said: the answer is kept "
        "under the caller's name.",
        Answer,
        v.RunShown,
        _answer,
        is_reading=False,
        is_repeatable=False,
        is_final=True,
    ),
    Tool(
        "cancel_run",
        "Cancel a run",
        "Asks for the end of a run: nothing new is begun, what there is is kept.",
        Cancel,
        v.RunShown,
        _cancel,
        is_reading=False,
        is_final=True,
    ),
)  # fmt: skip
"""Always in this order, so that what a client caches of them holds."""
