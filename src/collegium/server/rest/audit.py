"""``/v1/audit``: who did what, and whether all of it is as it was written."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Query
from pydantic import AwareDatetime, BeforeValidator
from starlette.responses import Response

from collegium.domain.deed import Deed
from collegium.runtime.admin_log import Wanted
from collegium.runtime.audit import Damage
from collegium.server.access.audit import AuditReport
from collegium.server.access.page import MOST
from collegium.server.caller import Caller
from collegium.server.rest.answer import answer, gives, gives_page
from collegium.server.rest.query import moment_text

ROUTER: Final = APIRouter(prefix="/v1/audit", tags=["audit"])
Installation = Annotated[bool, Query(description="The log of the installation; needs the scope `host`.")]
Moment = Annotated[AwareDatetime | None, BeforeValidator(moment_text), Query()]


@ROUTER.get("", responses=gives_page(Deed, "A page of lines, the newest first."), response_class=Response)
async def list_deeds(
    caller: Caller,
    actor: Annotated[str | None, Query(max_length=300)] = None,
    action: Annotated[str | None, Query(max_length=100, description="`keys.created`, or `keys.*` for all.")] = None,
    since: Moment = None,
    until: Moment = None,
    after: Annotated[str | None, Query(max_length=500)] = None,
    limit: Annotated[int, Query(ge=1, le=MOST)] = 50,
    installation: Installation = False,
) -> Response:
    """List who did what, decided by which rule.

    A page may be short and still have a `next`: only so many lines are looked through at a time.
    """
    wanted = Wanted(actor=actor, action=action, since=since, until=until)
    return answer(await caller.audit.page(wanted, after=after, limit=limit, is_installation=installation))


@ROUTER.get("/verify", responses=gives(AuditReport, "What was found."), response_class=Response)
async def verify(caller: Caller, installation: Installation = False) -> Response:
    """Hold runs and log against their chains and signed checkpoints; the first bad event of each is named."""
    return answer(await caller.audit.verify(is_installation=installation))


LEAN: Final = ()
TYPES: Final = (Deed, AuditReport, Damage)
