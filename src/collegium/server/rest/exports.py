"""``/v1/runs/{run}/export`` and ``/v1/runs/{run}/check``: runs to be held against what they were."""

from __future__ import annotations

from typing import Annotated, Any, Final
from urllib.parse import quote

from fastapi import APIRouter, Path
from starlette.responses import Response, StreamingResponse

from collegium.runtime.pins import Difference
from collegium.server.access.exports import RunChecked
from collegium.server.caller import Caller
from collegium.server.rest.answer import NO_STORE, answer, gives
from collegium.server.rest.openapi import Lean

ROUTER: Final = APIRouter(prefix="/v1/runs", tags=["runs"])
Run = Annotated[str, Path(min_length=1, max_length=100)]
_LINES: Final[dict[int | str, Any]] = {
    200: {
        "description": "One JSON document a line; the last one says how many there were.",
        "content": {"application/x-ndjson": {"schema": {"type": "string"}}},
    }
}


@ROUTER.get("/{run}/export", responses=_LINES, response_class=Response)
async def export_run(run: Run, caller: Caller) -> Response:
    """Export a run with all it needs: its journal as stored, its documents, its agents.

    What `collegium runs export` writes: it verifies under the same chain key, and replays anywhere (`collegium runs
    replay FILE`). It holds everything that the run has seen; the administrative log says who took it.
    """
    lines = await caller.exports.export(run)
    name = quote(f"{run}.collegium.jsonl", safe="")
    headers = {**NO_STORE, "content-disposition": f"attachment; filename*=UTF-8''{name}"}
    return StreamingResponse(lines, media_type="application/x-ndjson", headers=headers)


@ROUTER.get("/{run}/check", responses=gives(RunChecked, "What was found."), response_class=Response)
async def check_run(run: Run, caller: Caller) -> Response:
    """Check a run: whether its journal is as it was written, and whether it can go on with what there is now.

    Reads its journal and nothing else. `/v1/audit/verify` holds all journals against the signed checkpoints too.
    """
    return answer(await caller.exports.check(run))


LEAN: Final[tuple[Lean, ...]] = ()
TYPES: Final = (RunChecked, Difference)
