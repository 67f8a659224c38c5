"""``/v1/runs``: goals, and what becomes of them."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Any, Final, Literal

import msgspec
from fastapi import APIRouter, Header
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from collegium.domain.errors import UsageError
from collegium.domain.event import Event
from collegium.domain.goal import MAX_GOAL_CHARS
from collegium.domain.message import PRIORITIES
from collegium.domain.plan import Plan
from collegium.domain.report import RunReport
from collegium.domain.usage import Limits
from collegium.runtime.uploads import MOST_FILES
from collegium.server.access.access import Access
from collegium.server.access.page import MOST
from collegium.server.access.runs import Submission, etag
from collegium.server.caller import Caller, access
from collegium.server.live.snapshots import RunSummary
from collegium.server.rest.answer import answer, encoded, gives, gives_page, ref
from collegium.server.rest.event_stream import is_stream_wanted, stream
from collegium.server.rest.openapi import Lean
from collegium.server.rest.query import asked_of, number, optional, several

ROUTER: Final = APIRouter(prefix="/v1/runs", tags=["runs"])


def plan_of(given: Any) -> Plan | None:
    """The plan in a request. Raises ValueError for what is none; whether it may run is another question."""
    if given is None or isinstance(given, Plan):
        return given
    try:
        return msgspec.convert(given, Plan)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from error


def amount_of(given: Any) -> Any:
    """An amount as it is to be read. Raises ValueError for a text that is no plain decimal number."""
    if isinstance(given, str) and not re.fullmatch(_AMOUNT, given):
        raise ValueError("write an amount as 1.50")
    return given


_AMOUNT: Final = r"^(1000000(\.0{1,6})?|[0-9]{1,6}(\.[0-9]{1,6})?)$"
Amount = Annotated[
    Annotated[Decimal, Field(ge=0, le=1_000_000, allow_inf_nan=False)] | None,
    BeforeValidator(amount_of),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "minimum": 0, "maximum": 1_000_000},
                {"type": "string", "pattern": _AMOUNT},
                {"type": "null"},
            ]
        }
    ),
]
Count = Annotated[int | None, Field(ge=1, le=10**12)]
PlanGiven = Annotated[
    Plan | None,
    BeforeValidator(plan_of),
    Field(description="Follow this plan instead of making one."),
    WithJsonSchema({"anyOf": [{"$ref": "#/components/schemas/Plan"}, {"type": "null"}]}),
]
Key = Annotated[str | None, Header(alias="Idempotency-Key", max_length=200, min_length=1)]


Project = Annotated[
    str, Field(max_length=100, description="A part of the tenant; left out: the caller's only one, else none.")
]


class RunAccepted(msgspec.Struct, frozen=True, kw_only=True):
    """A run that was accepted: it is never lost from now on."""

    run_id: str


class RunLimits(BaseModel):
    """Caps that hold before each call; what is left out is as the server's settings say."""

    model_config = ConfigDict(extra="forbid")
    cost_usd: Amount = None
    tokens: Count = None
    input_tokens: Count = None
    output_tokens: Count = None
    tool_calls: Count = None
    parallel: Annotated[int | None, Field(ge=1, le=10_000)] = None
    tasks: Annotated[int | None, Field(ge=1, le=1_000)] = None
    steps_per_task: Annotated[int | None, Field(ge=1, le=1_000)] = None
    deadline_s: Annotated[float | None, Field(gt=0, le=10_000_000, allow_inf_nan=False)] = None

    def over(self, usual: Limits) -> Limits:
        """``usual`` with what is given in its place."""
        return msgspec.structs.replace(usual, **self.model_dump(exclude_none=True))


class NewRun(BaseModel):
    """A goal, and how it is to be reached."""

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)
    goal: Annotated[str, Field(min_length=1, max_length=MAX_GOAL_CHARS, examples=["Which clauses changed?"])]
    files: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=100)]],
        Field(max_length=MOST_FILES, description="Ids of uploads."),
    ] = []
    model: Annotated[str | None, Field(max_length=300, examples=["openai:gpt-5-mini"])] = None
    priority: Literal["urgent", "high", "normal", "low"] = "normal"
    limits: RunLimits | None = None
    plan: PlanGiven = None
    plan_only: Annotated[bool, Field(strict=True, description="Make the plan and end.")] = False
    review_plan: Annotated[bool, Field(strict=True, description="Ask a person before the plan is followed.")] = False
    output_schema: Annotated[
        dict[str, Any] | None, Field(description="JSON Schema (an object) that the answer has to satisfy.")
    ] = None
    continues: Annotated[str | None, Field(max_length=100, description="A run to ask on from.")] = None
    tools: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=200)]],
        Field(max_length=100, description="Tools that every agent of the run may use beside its own."),
    ] = []
    project: Project = ""

    async def submission(self, caller: Access) -> Submission:
        """It as the caller hands it on. Raises ``UsageError``."""
        if self.plan_only and self.review_plan:
            raise UsageError("plan_only and review_plan exclude each other: the first ends with the plan")
        return Submission(
            goal=self.goal,
            files=await caller.uploads.files(self.files),
            model=self.model,
            limits=None if self.limits is None else self.limits.over(caller.runs.limits),
            priority=PRIORITIES[self.priority],
            plan=self.plan,
            is_plan_only=self.plan_only,
            is_plan_reviewed=self.review_plan,
            output_schema=self.output_schema,
            continues=self.continues,
            tools=tuple(self.tools),
            project=self.project,
        )


@ROUTER.post("", status_code=202, responses=gives(RunAccepted, "Accepted.", status=202), response_class=Response)
async def submit(wanted: NewRun, caller: Caller, idempotency_key: Key = None) -> Response:
    """Submit a goal.

    Once this has answered, the run is never lost. The same `Idempotency-Key` with the same body gives the same run.
    """
    run = await caller.runs.submit(await wanted.submission(caller), key=idempotency_key)
    return answer(RunAccepted(run_id=run), 202, {"location": f"/v1/runs/{run}"})


async def _page(request: Request) -> Response:
    asked = asked_of(request, "status", "project", "after", "limit")
    page = await access(request).runs.page_document(
        statuses=several(asked, "status"), project=optional(asked, "project"), after=optional(asked, "after"),
        limit=number(asked, "limit", 50, most=MOST),
    )  # fmt: skip
    return encoded(page)


async def _show(request: Request) -> Response:
    asked_of(request)
    seq, document = await access(request).runs.document(request.path_params["run"])
    return encoded(document, {"etag": etag(seq)})


async def _events(request: Request) -> Response:
    if is_stream_wanted(request):
        return await stream(request, request.path_params["run"])
    asked = asked_of(request, "after", "limit")
    after, limit = number(asked, "after", 0, least=0), number(asked, "limit", MOST, most=1_000)
    return encoded(await access(request).runs.events_document(request.path_params["run"], after=after, limit=limit))


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
                {"name": "project", "in": "query", "schema": {"type": "string"}},
                {"name": "after", "in": "query", "schema": {"type": "string"}},
                {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": MOST}},
            ],
            "responses": gives_page(RunSummary, "A page of runs."),
        },
        is_of_store=True,
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
        is_of_store=True,
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
        is_of_store=True,
    ),
)
TYPES: Final = (RunAccepted, RunSummary, RunReport, Event, Plan)
