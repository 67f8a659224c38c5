"""``/v1/privacy``: what is held of a principal, in one file; and its erasure."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response, StreamingResponse

from collegium.server.access.privacy import ErasureProof
from collegium.server.caller import Caller
from collegium.server.rest.answer import NO_STORE, answer, gives

ROUTER: Final = APIRouter(prefix="/v1/privacy", tags=["privacy"])
_SUBJECT = Field(min_length=1, max_length=300, examples=["user:ada"])
_EXPORT: Final[dict[int | str, Any]] = {
    200: {
        "description": "One JSON document a line.",
        "content": {"application/x-ndjson": {"schema": {"type": "string"}}},
    }
}


class ExportWanted(BaseModel):
    """Whose data."""

    model_config = ConfigDict(extra="forbid")
    subject: Annotated[str, _SUBJECT]


class ErasureWanted(BaseModel):
    """Whose data, and why they go; the reason stands in the log."""

    model_config = ConfigDict(extra="forbid")
    subject: Annotated[str, _SUBJECT]
    reason: Annotated[str, Field(max_length=500)] = ""


@ROUTER.post("/export", responses=_EXPORT, response_class=Response)
async def export_subject(wanted: ExportWanted, caller: Caller) -> Response:
    """Export everything that is held of a principal: runs, documents, records; no secrets."""
    lines = await caller.privacy.export(wanted.subject)
    headers = {**NO_STORE, "content-disposition": 'attachment; filename="export.jsonl"'}
    return StreamingResponse(lines, media_type="application/x-ndjson", headers=headers)


@ROUTER.post("/erase", responses=gives(ErasureProof, "What was erased, and the proof."), response_class=Response)
async def erase_subject(wanted: ErasureWanted, caller: Caller) -> Response:
    """Erase everything that is held of a principal.

    Runs that go on have to be cancelled first (409). What was erased is listed with tombstones in the audit log.
    """
    return answer(await caller.privacy.erase(wanted.subject, reason=wanted.reason))


LEAN: Final = ()
TYPES: Final = (ErasureProof,)
