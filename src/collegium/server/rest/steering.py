"""What is done with a run that was submitted: end it, go on with it, fork it, tell it something, judge it."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from fastapi import APIRouter, Header, Path
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from collegium.domain.errors import CollegiumError, StoreError
from collegium.domain.head import RunStatus
from collegium.runtime.inbox import MAX_TEXT_CHARS
from collegium.server.caller import Caller
from collegium.server.rest.answer import answer, gives
from collegium.server.rest.openapi import Lean
from collegium.server.rest.runs import NewRun, PlanGiven, RunAccepted

ROUTER: Final = APIRouter(prefix="/v1/runs", tags=["runs"])
Run = Annotated[str, Path(min_length=1, max_length=100)]
MOST_AT_ONCE: Final = 100
IfMatch = Annotated[
    str | None,
    Header(
        alias="If-Match",
        max_length=500,
        description="The `ETag` of the run that was read: 412 with the present one if it has moved on since.",
    ),
]
Reason = Annotated[str, Field(max_length=2_000, description="For the journal.")]


class RunStanding(msgspec.Struct, frozen=True, kw_only=True):
    """A run, and how it stands."""

    run_id: str
    status: RunStatus


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one of several: a run, or what was wrong."""

    run_id: str | None = None
    code: str | None = None
    detail: str | None = None


class Outcomes(msgspec.Struct, frozen=True, kw_only=True):
    """What became of each, in the order of the request."""

    items: tuple[Outcome, ...]


class Cancellation(BaseModel):
    """Why a run is to end."""

    model_config = ConfigDict(extra="forbid")
    reason: Reason = ""


class Cancellations(Cancellation):
    """Which runs are to end, and why."""

    runs: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=100)]], Field(min_length=1, max_length=MOST_AT_ONCE)
    ]


class Resumption(BaseModel):
    """How a run goes on."""

    model_config = ConfigDict(extra="forbid")
    outcome: Annotated[
        Literal["done", "not-done", "retry"] | None,
        Field(description="What became of calls that may or may not have taken place."),
    ] = None
    reason: Reason = ""


class ForkWanted(BaseModel):
    """Where a fork begins, and what is different in it."""

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)
    at: Annotated[int, Field(ge=1, le=2**53, description="The last event that the fork shares.")]
    model: Annotated[str | None, Field(max_length=300)] = None
    plan: PlanGiven = None
    effects: Annotated[
        Literal["ask", "allow"], Field(description="Whether writes that the run made later need an approval.")
    ] = "ask"


class Said(BaseModel):
    """Something that is added to what a run is to do."""

    model_config = ConfigDict(extra="forbid")
    text: Annotated[str, Field(min_length=1, max_length=MAX_TEXT_CHARS)]


class Feedback(BaseModel):
    """What somebody thinks of an answer."""

    model_config = ConfigDict(extra="forbid")
    rating: Literal["good", "bad"]
    note: Annotated[str, Field(max_length=10_000)] = ""


class Batch(BaseModel):
    """Several goals."""

    model_config = ConfigDict(extra="forbid")
    runs: Annotated[list[NewRun], Field(min_length=1, max_length=MOST_AT_ONCE)]


@ROUTER.post("/batch", responses=gives(Outcomes, "What became of each."), response_class=Response)
async def submit_batch(wanted: Batch, caller: Caller) -> Response:
    """Submit several goals; each by itself is accepted or not."""
    caller.principal.require("runs:write")
    found: list[Outcome] = []
    for one in wanted.runs:
        try:
            found.append(Outcome(run_id=await caller.runs.submit(await one.submission(caller))))
        except StoreError:
            raise
        except CollegiumError as error:
            found.append(Outcome(code=error.code, detail=error.message))
    return answer(Outcomes(items=tuple(found)))


@ROUTER.post("/cancel", responses=gives(Outcomes, "What became of each."), response_class=Response)
async def cancel_runs(wanted: Cancellations, caller: Caller) -> Response:
    """Ask for the end of several runs."""
    caller.principal.require("runs:write")
    found: list[Outcome] = []
    for run in wanted.runs:
        try:
            await caller.runs.cancel(run, reason=wanted.reason)
            found.append(Outcome(run_id=run))
        except StoreError:
            raise
        except CollegiumError as error:
            found.append(Outcome(run_id=run, code=error.code, detail=error.message))
    return answer(Outcomes(items=tuple(found)))


@ROUTER.post(
    "/{run}/cancel", status_code=202, responses=gives(RunStanding, "Asked for.", status=202), response_class=Response
)
async def cancel_run(
    run: Run, caller: Caller, wanted: Cancellation | None = None, if_match: IfMatch = None
) -> Response:
    """Ask for a run's end: nothing new is started, calls under way are ended, what there is is kept."""
    await caller.runs.require_unmoved(run, if_match)
    state = await caller.runs.cancel(run, reason="" if wanted is None else wanted.reason)
    return answer(RunStanding(run_id=run, status=state.status), 202)


@ROUTER.post(
    "/{run}/resume", status_code=202, responses=gives(RunStanding, "It goes on.", status=202), response_class=Response
)
async def resume_run(run: Run, caller: Caller, wanted: Resumption | None = None, if_match: IfMatch = None) -> Response:
    """Go on with a run where it was stopped; nothing that was done is done again."""
    given = wanted or Resumption()
    await caller.runs.require_unmoved(run, if_match)
    state = await caller.runs.resume(run, outcome=given.outcome, reason=given.reason)
    return answer(RunStanding(run_id=run, status=state.status), 202)


@ROUTER.post(
    "/{run}/fork", status_code=202, responses=gives(RunAccepted, "Accepted.", status=202), response_class=Response
)
async def fork_run(run: Run, wanted: ForkWanted, caller: Caller) -> Response:
    """Go on from any event of a run, as a new one; the run stays as it is."""
    made = await caller.runs.fork(run, at=wanted.at, model=wanted.model, plan=wanted.plan, effects=wanted.effects)
    return answer(RunAccepted(run_id=made), 202, {"location": f"/v1/runs/{made}"})


@ROUTER.post("/{run}/say", responses=gives(RunStanding, "Its agents are told."), response_class=Response)
async def say(run: Run, wanted: Said, caller: Caller, if_match: IfMatch = None) -> Response:
    """Add to what a run is to do: its agents are told before their next model call."""
    await caller.runs.require_unmoved(run, if_match)
    state = await caller.runs.say(run, wanted.text)
    return answer(RunStanding(run_id=run, status=state.status))


@ROUTER.post("/{run}/feedback", status_code=204, response_class=Response)
async def give_feedback(run: Run, wanted: Feedback, caller: Caller, if_match: IfMatch = None) -> Response:
    """Say what you think of a run that has ended."""
    await caller.runs.require_unmoved(run, if_match)
    await caller.runs.feedback(run, is_good=wanted.rating == "good", note=wanted.note)
    return Response(status_code=204)


LEAN: Final[tuple[Lean, ...]] = ()
TYPES: Final = (RunStanding, Outcome, Outcomes)
