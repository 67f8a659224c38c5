"""``/v1/models``: what can be asked."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Query
from starlette.responses import Response

from collegium.server.access.models import ModelShown
from collegium.server.access.page import MOST
from collegium.server.caller import Caller
from collegium.server.rest.answer import answer, gives_page
from collegium.server.rest.openapi import Lean

ROUTER: Final = APIRouter(prefix="/v1/models", tags=["models"])


@ROUTER.get("", responses=gives_page(ModelShown, "A page of models."), response_class=Response)
async def list_models(
    caller: Caller,
    after: Annotated[str | None, Query(max_length=500, description="`next` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=MOST)] = 50,
) -> Response:
    """List models by name: provider, abilities, whether their key or file is here, who asks them. Never a secret."""
    return answer(await caller.models.page(after=after, limit=limit))


LEAN: Final[tuple[Lean, ...]] = ()
TYPES: Final = (ModelShown,)
