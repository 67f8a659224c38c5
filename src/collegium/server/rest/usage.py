"""``/v1/usage``: what was used."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Query
from starlette.responses import Response

from collegium.server.access.page import MOST
from collegium.server.access.usage import RunUsages, UsageShown
from collegium.server.caller import Caller
from collegium.server.rest.answer import answer, gives
from collegium.server.rest.openapi import Lean

ROUTER: Final = APIRouter(prefix="/v1/usage", tags=["usage"])
Name = Annotated[str | None, Query(min_length=1, max_length=200)]


@ROUTER.get("", responses=gives(UsageShown, "The accounts."), response_class=Response)
async def show_usage(caller: Caller, user: Name = None, agent: Name = None) -> Response:
    """Show what the tenant used today and this month (UTC), and a user or an agent of it.

    Accounts are kept where something is capped. `/v1/usage/runs` tells what each run used, capped or not.
    """
    return answer(await caller.usage.accounts(user=user, agent=agent))


@ROUTER.get("/runs", responses=gives(RunUsages, "A page of runs."), response_class=Response)
async def list_run_usage(
    caller: Caller,
    after: Annotated[str | None, Query(max_length=500, description="`next` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=MOST)] = 50,
) -> Response:
    """List what runs used, the newest first, with the sum of the page."""
    return answer(await caller.usage.runs(after=after, limit=limit))


LEAN: Final[tuple[Lean, ...]] = ()
TYPES: Final = (UsageShown, RunUsages)
