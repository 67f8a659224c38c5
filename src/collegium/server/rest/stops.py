"""``/v1/stops``: kill switches of tenants, runs, agents and tools."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from collegium.server.access.page import MOST
from collegium.server.access.stops import StopRemoved, StopShown
from collegium.server.caller import Caller
from collegium.server.rest.answer import answer, gives, gives_page
from collegium.server.rest.openapi import Lean

ROUTER: Final = APIRouter(prefix="/v1/stops", tags=["stops"])
KindOf = Annotated[Literal["tenant", "run", "agent", "tool"], Path()]
Name = Annotated[str, Path(min_length=1, max_length=200, pattern=r"^[\w.:@-]+$")]


class StopWanted(BaseModel):
    """Why it is stopped; whoever meets it is told."""

    model_config = ConfigDict(extra="forbid")
    reason: Annotated[str, Field(max_length=2_000)] = ""


@ROUTER.get("", responses=gives_page(StopShown, "A page of what is stopped."), response_class=Response)
async def list_stops(
    caller: Caller,
    after: Annotated[str | None, Query(max_length=500, description="`next` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=MOST)] = 50,
) -> Response:
    """List what is stopped, by kind and name."""
    return answer(await caller.stops.page(after=after, limit=limit))


@ROUTER.put("/{kind}/{name}", responses=gives(StopShown, "It is stopped."), response_class=Response)
async def put_stop(kind: KindOf, name: Name, caller: Caller, wanted: StopWanted | None = None) -> Response:
    """Stop it until it is started again: every process ends what it does of it within two seconds.

    Agents and tools are those of all tenants: for them, `host` is needed.
    """
    return answer(await caller.stops.put(kind, name, reason="" if wanted is None else wanted.reason))


@ROUTER.delete("/{kind}/{name}", responses=gives(StopRemoved, "It goes on."), response_class=Response)
async def remove_stop(kind: KindOf, name: Name, caller: Caller) -> Response:
    """Let go on what was stopped; twice is harmless."""
    return answer(await caller.stops.remove(kind, name))


LEAN: Final[tuple[Lean, ...]] = ()
TYPES: Final = (StopShown, StopRemoved)
