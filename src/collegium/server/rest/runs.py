"""``/v1/runs``: goals, and what becomes of them."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec
from fastapi import APIRouter, Header
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from collegium.domain.event import Event
from collegium.domain.goal import MAX_GOAL_CHARS
from collegium.domain.message import PRIORITIES
from collegium.domain.report import RunReport
from collegium.server.access.page import MOST
from collegium.server.access.runs import RunSummary, Submission
from collegium.server.caller import Caller, access
from collegium.server.live.sse import is_stream_wanted, stream
from collegium.server.rest.answer import answer, gives, gives_page, ref
from collegium.server.rest.openapi import Lean
from collegium.server.rest.query import number, optional, several

ROUTER: Final = APIRouter(prefix="/v1/runs", tags=["runs"])
Key = Annotated[str | None, Header(alias="Idempotency-Key", max_length=200, min_length=1)]


class RunAccepted(msgspec.Struct, frozen=True, kw_only=True):
    """A run that was accepted: it is never lost from now on."""

    run_id: str


class NewRun(BaseModel):
    """A goal, and how it is to be reached."""

    model_config = ConfigDict(extra="forbid")
    goal: Annotated[str, Field(min_length=1, max_length=MAX_GOAL_CHARS, examples=["Which clauses changed?"])]
    model: Annotated[str | None, Field(max_length=300)] = None
    priority: Literal["urgent", "high", "normal", "low"] = "normal"
    plan_only: bool = False
    review_plan: bool = False
    continues: Annotated[str | None, Field(max_length=100)] = None
    tools: Annotated[list[str], Field(max_length=100)] = []


@ROUTER.post("", status_code=202, responses=gives(RunAccepted, "Accepted.", status=202), response_class=Response)
async def submit(wanted: NewRun, caller: Caller, idempotency_key: Key = None) -> Response:
    """Submit a goal.

    Once this has answered, the run is never lost. The same `Idempotency-Key` with the same body gives the same run.
    """
    submission = Submission(
        goal=wanted.goal,
        model=wanted.model,
        priority=PRIORITIES[wanted.priority],
        is_plan_only=wanted.plan_only,
        is_plan_reviewed=wanted.review_plan,
        continues=wanted.continues,
        tools=tuple(wanted.tools),
    )
    run = await caller.runs.submit(submission, key=idempotency_key)
    return answer(RunAccepted(run_id=run), 202, {"location": f"/v1/runs/{run}"})


async def _page(request: Request) -> Response:
    asked = request.query_params
    page = await access(request).runs.page(
        statuses=several(asked, "status"), after=optional(asked, "after"), limit=number(asked, "limit", 50, most=MOST)
    )
    return answer(page)


async def _show(request: Request) -> Response:
    return answer(await access(request).runs.report(request.path_params["run"]))


async def _events(request: Request) -> Response:
    if is_stream_wanted(request):
        return await stream(request, request.path_params["run"])
    asked = request.query_params
    after, limit = number(asked, "after", 0, least=0), number(asked, "limit", MOST, most=1_000)
    events = await access(request).runs.events(request.path_params["run"], after=after, limit=limit)
    # Events are numbered without gaps: the cursor is the number of the last one, and there is always a next.
    return answer({"items": events, "next": str(events[-1].seq if events else after)})


_RUN: Final[dict[str, Any]] = {"name": "run", "in": "path", "required": True, "schema": {"type": "string"}}
LEAN: Final = (
    Lean(
        Route("/v1/runs", _page, methods=["GET"]),
        {
            "tags": ["runs"],
            "operationId": "list_runs",
            "summary": "List runs, the newest first",
            "parameters": [
                {"name": "status", "in": "query", "schema": {"type": "array", "items": {"type": "string"}}},
                {"name": "after", "in": "query", "schema": {"type": "string"}},
                {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": MOST}},
            ],
            "responses": gives_page(RunSummary, "A page of runs."),
        },
    ),
    Lean(
        Route("/v1/runs/{run}", _show, methods=["GET"]),
        {
            "tags": ["runs"],
            "operationId": "show_run",
            "summary": "Show a run as it stands",
            "parameters": [_RUN],
            "responses": gives(RunReport, "The run."),
        },
    ),
    Lean(
        Route("/v1/runs/{run}/events", _events, methods=["GET"]),
        {
            "tags": ["runs"],
            "operationId": "list_events",
            "summary": "Read the events of a run",
            "parameters": [
                _RUN,
                {"name": "after", "in": "query", "schema": {"type": "integer", "minimum": 0}},
                {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": 1_000}},
            ],
            "responses": {
                200: {
                    "description": "Events in order.",
                    "content": {
                        "application/json": {
                            "schema": {
                                "type": "object",
                                "required": ["items", "next"],
                                "properties": {
                                    "items": {"type": "array", "items": ref(Event)},
                                    "next": {"type": "string"},
                                },
                            }
                        },
                        "text/event-stream": {"schema": {"type": "string"}},
                    },
                }
            },
        },
    ),
)
TYPES: Final = (RunAccepted, RunSummary, RunReport, Event)
