"""``/v1/collections``: documents and their search. As yet, what each run was given is a collection, by the run's id."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Path, Query
from starlette.responses import Response

from collegium.server.access.collections import CollectionDocument, PassagesFound
from collegium.server.access.page import MOST
from collegium.server.caller import Caller
from collegium.server.rest.answer import answer, gives, gives_page
from collegium.server.rest.openapi import Lean

ROUTER: Final = APIRouter(prefix="/v1/collections", tags=["collections"])
Run = Annotated[str, Path(min_length=1, max_length=100, description="A run's id: what it was given to read.")]


@ROUTER.get(
    "/{run}/documents", responses=gives_page(CollectionDocument, "A page of documents."), response_class=Response
)
async def list_documents(
    run: Run,
    caller: Caller,
    after: Annotated[str | None, Query(max_length=4_000, description="`next` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=MOST)] = 50,
) -> Response:
    """List the documents that a run was given, by path."""
    return answer(await caller.collections.documents(run, after=after, limit=limit))


@ROUTER.get("/{run}/search", responses=gives(PassagesFound, "Passages."), response_class=Response)
async def search_documents(
    run: Run,
    caller: Caller,
    query: Annotated[str, Query(min_length=1, max_length=2_000)],
    limit: Annotated[int, Query(ge=1, le=50)] = 8,
) -> Response:
    """Search what a run was given, the best passages first."""
    return answer(await caller.collections.search(run, query, limit=limit))


LEAN: Final[tuple[Lean, ...]] = ()
TYPES: Final = (CollectionDocument, PassagesFound)
