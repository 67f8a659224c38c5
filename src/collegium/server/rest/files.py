"""``/v1/runs/{run}/files``: what runs wrote."""

from __future__ import annotations

from typing import Annotated, Final
from urllib.parse import quote

import msgspec
from fastapi import APIRouter, Path
from starlette.responses import Response

from collegium.domain.tool import Artifact
from collegium.server.caller import Caller
from collegium.server.rest.answer import NO_STORE, answer, gives
from collegium.server.rest.openapi import Lean

ROUTER: Final = APIRouter(prefix="/v1/runs", tags=["files"])
Run = Annotated[str, Path(min_length=1, max_length=100)]


class RunFiles(msgspec.Struct, frozen=True, kw_only=True):
    """The files of a run, by path."""

    items: tuple[Artifact, ...]
    next: None = None


@ROUTER.get("/{run}/files", responses=gives(RunFiles, "Its files."), response_class=Response)
async def list_files(run: Run, caller: Caller) -> Response:
    """List the files that a run wrote so far."""
    return answer(RunFiles(items=await caller.runs.files(run)))


@ROUTER.get(
    "/{run}/files/{path:path}",
    responses={
        200: {
            "description": "The file, as it is.",
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
    response_class=Response,
)
async def read_file(run: Run, path: Annotated[str, Path(min_length=1, max_length=2_000)], caller: Caller) -> Response:
    """Read a file that a run wrote. It is handed out to be saved, whatever is in it: never to be shown as a page."""
    data = await caller.runs.file(run, path)
    name = quote(path.rpartition("/")[2], safe="")
    headers = {**NO_STORE, "content-disposition": f"attachment; filename*=UTF-8''{name}"}
    return Response(data, headers=headers, media_type="application/octet-stream")


LEAN: Final[tuple[Lean, ...]] = ()
TYPES: Final = (RunFiles, Artifact)
