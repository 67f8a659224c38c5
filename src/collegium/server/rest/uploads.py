"""``/v1/uploads``: files that are handed over before the goal that names them."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Query
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from collegium.domain.errors import TooLarge, UsageError
from collegium.runtime.uploads import MAX_NAME_CHARS, Upload
from collegium.server.access.page import MOST
from collegium.server.caller import Caller
from collegium.server.rest.answer import answer, gives, gives_page
from collegium.server.rest.openapi import Lean

UPLOADS: Final = "/v1/uploads"
ROUTER: Final = APIRouter(prefix=UPLOADS, tags=["uploads"])
MAX_BYTES: Final = 50 * 1024 * 1024
"""Of one file, where nobody says ``inputs.max_file_bytes``."""
MORE_BYTES: Final = 64 * 1024
"""A form may be so much larger than the file in it."""
One = Annotated[str, Path(min_length=1, max_length=100)]
_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "string", "format": "binary"}},
                }
            },
        },
    }
}


@ROUTER.post(
    "",
    status_code=201,
    responses=gives(Upload, "Kept for a day.", status=201),
    response_class=Response,
    openapi_extra=_BODY,
)
async def upload_file(
    request: Request, caller: Caller, name: Annotated[str | None, Query(max_length=2 * MAX_NAME_CHARS)] = None
) -> Response:
    """Hand over a file: its bytes as the body and its `name` in the query, or as a form with one part `file`.

    Name it in `files` of a goal within a day; a run keeps what it was given.
    """
    caller.principal.require("runs:write")  # before megabytes are taken in
    if request.headers.get("content-type", "").startswith("multipart/form-data"):
        given, data = await _form(request)
        name = name or given
    else:
        data = await request.body()
    most: int = request.app.state.faces.upload_bytes
    if len(data) > most:
        raise TooLarge(f"the file has {len(data):,} bytes and at most {most:,} are taken in (`inputs.max_file_bytes`)")
    if not name:
        raise UsageError("the file has no name: say `?name=reports/june.txt`")
    made = await caller.uploads.add(name, data)
    return answer(made, 201, {"location": f"/v1/uploads/{made.id}"})


@ROUTER.get("", responses=gives_page(Upload, "A page of uploads."), response_class=Response)
async def list_uploads(
    caller: Caller,
    after: Annotated[str | None, Query(max_length=500)] = None,
    limit: Annotated[int, Query(ge=1, le=MOST)] = 50,
) -> Response:
    """List uploads, the oldest first."""
    return answer(await caller.uploads.page(after=after, limit=limit))


@ROUTER.get("/{upload}", responses=gives(Upload, "The upload."), response_class=Response)
async def show_upload(upload: One, caller: Caller) -> Response:
    """Show an upload."""
    return answer(await caller.uploads.show(upload))


@ROUTER.delete("/{upload}", status_code=204, response_class=Response)
async def remove_upload(upload: One, caller: Caller) -> Response:
    """Remove an upload. Runs that were given it keep it."""
    await caller.uploads.remove(upload)
    return Response(status_code=204)


async def _form(request: Request) -> tuple[str, bytes]:
    """Name and bytes of the one file in a form."""
    await request.body()  # all of it first: a form that is cut off half way leaves its files open
    try:
        async with request.form(max_files=1, max_fields=5) as form:
            file = form.get("file")
            if not isinstance(file, UploadFile):
                raise UsageError('the form has no part "file" with a file')
            return file.filename or "", await file.read()
    except HTTPException as error:
        if error.status_code != 400:
            raise
        raise UsageError(f"the form cannot be read: {error.detail}") from error


LEAN: Final[tuple[Lean, ...]] = ()
TYPES: Final = (Upload,)
