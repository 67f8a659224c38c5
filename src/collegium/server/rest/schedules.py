"""``/v1/schedules``: goals that come again."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from fastapi import APIRouter, Header, Path, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from collegium.domain.goal import MAX_GOAL_CHARS
from collegium.domain.message import PRIORITIES
from collegium.runtime.uploads import MOST_FILES
from collegium.server.access.page import MOST
from collegium.server.access.schedules import NewSchedule, ScheduleShown
from collegium.server.caller import Caller
from collegium.server.rest.answer import answer, gives, gives_page
from collegium.server.rest.openapi import Lean
from collegium.server.rest.runs import Project, RunLimits

ROUTER: Final = APIRouter(prefix="/v1/schedules", tags=["schedules"])
Id = Annotated[str, Path(min_length=1, max_length=100)]
IfMatch = Annotated[str | None, Header(alias="If-Match", max_length=500, description="The `ETag` that was read.")]


class ScheduleWanted(BaseModel):
    """A goal, and when it comes again."""

    model_config = ConfigDict(extra="forbid")
    cron: Annotated[str, Field(min_length=1, max_length=200, examples=["@daily", "30 6 * * MON-FRI"])]
    goal: Annotated[str, Field(min_length=1, max_length=MAX_GOAL_CHARS)]
    tz: Annotated[str, Field(min_length=1, max_length=100, examples=["Europe/Berlin"])] = "UTC"
    name: Annotated[str, Field(max_length=80)] = ""
    missed: Literal["skip", "once", "all"] = "once"
    overlap: Literal["skip", "allow", "queue"] = "skip"
    jitter_s: Annotated[float, Field(strict=True, ge=0, le=31_536_000, allow_inf_nan=False)] = 0.0
    files: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=100)]],
        Field(max_length=MOST_FILES, description="Ids of uploads."),
    ] = []
    model: Annotated[str | None, Field(max_length=300)] = None
    limits: RunLimits | None = None
    priority: Literal["urgent", "high", "normal", "low"] = "normal"
    tools: Annotated[list[Annotated[str, Field(min_length=1, max_length=200)]], Field(max_length=100)] = []
    project: Project = ""


class Rest(BaseModel):
    """Why a schedule is to rest."""

    model_config = ConfigDict(extra="forbid")
    reason: Annotated[str, Field(max_length=2_000)] = ""


@ROUTER.post("", status_code=201, responses=gives(ScheduleShown, "Added.", status=201), response_class=Response)
async def add_schedule(wanted: ScheduleWanted, caller: Caller) -> Response:
    """Let a goal come again. Its files are taken now."""
    caller.principal.require("runs:write")
    made = await caller.schedules.add(
        NewSchedule(
            **wanted.model_dump(
                include={"cron", "goal", "tz", "name", "missed", "overlap", "jitter_s", "model", "project"}
            ),
            files=await caller.uploads.files(wanted.files),
            limits=None if wanted.limits is None else wanted.limits.over(caller.runs.limits),
            priority=PRIORITIES[wanted.priority],
            tools=tuple(wanted.tools),
        )
    )
    return _with_tag(made, 201, location=f"/v1/schedules/{made.schedule_id}")


@ROUTER.get("", responses=gives_page(ScheduleShown, "A page of schedules."), response_class=Response)
async def list_schedules(
    caller: Caller,
    after: Annotated[str | None, Query(max_length=500, description="`next` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=MOST)] = 50,
) -> Response:
    """List schedules, the oldest first."""
    return answer(await caller.schedules.page(after=after, limit=limit))


@ROUTER.get("/{schedule}", responses=gives(ScheduleShown, "The schedule."), response_class=Response)
async def show_schedule(schedule: Id, caller: Caller) -> Response:
    """Show a schedule and what became of its last times."""
    return _with_tag(await caller.schedules.show(schedule))


@ROUTER.post("/{schedule}/pause", responses=gives(ScheduleShown, "It rests."), response_class=Response)
async def pause_schedule(
    schedule: Id, caller: Caller, wanted: Rest | None = None, if_match: IfMatch = None
) -> Response:
    """Let a schedule rest until it is resumed."""
    reason = "" if wanted is None else wanted.reason
    return _with_tag(await caller.schedules.pause(schedule, reason=reason, if_match=if_match))


@ROUTER.post("/{schedule}/resume", responses=gives(ScheduleShown, "It goes on."), response_class=Response)
async def resume_schedule(schedule: Id, caller: Caller, if_match: IfMatch = None) -> Response:
    """Let a schedule go on with its next time."""
    return _with_tag(await caller.schedules.resume(schedule, if_match=if_match))


@ROUTER.delete("/{schedule}", status_code=204, response_class=Response)
async def remove_schedule(schedule: Id, caller: Caller, if_match: IfMatch = None) -> Response:
    """Remove a schedule; its runs stay."""
    await caller.schedules.remove(schedule, if_match=if_match)
    return Response(status_code=204)


def _with_tag(shown: ScheduleShown, status: int = 200, **headers: str) -> Response:
    return answer(shown, status, {"etag": shown.etag, **headers})


LEAN: Final[tuple[Lean, ...]] = ()
TYPES: Final = (ScheduleShown,)
