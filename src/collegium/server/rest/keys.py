"""``/v1/keys``: API keys."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from collegium.domain.api_key import DEFAULT_ENV, MAX_NAME_CHARS
from collegium.runtime.keys import MAX_GRACE_S
from collegium.server.access.keys import KeyIssued, KeyShown
from collegium.server.access.page import MOST
from collegium.server.caller import Caller
from collegium.server.rest.answer import answer, gives, gives_page
from collegium.server.rest.openapi import Lean

ROUTER: Final = APIRouter(prefix="/v1/keys", tags=["keys"])
Names = Annotated[list[Annotated[str, Field(max_length=60)]], Field(max_length=50)]
TenantName = Annotated[str, Field(min_length=1, max_length=100)]
Tenant = Annotated[str | None, Query(min_length=1, max_length=100, description="Of another tenant: needs `host`.")]
KeyId = Annotated[str, Path(min_length=1, max_length=100)]


class NewKey(BaseModel):
    """A key, and what it may do."""

    model_config = ConfigDict(extra="forbid")
    name: Annotated[str, Field(max_length=MAX_NAME_CHARS, examples=["nightly import"])] = ""
    roles: Annotated[Names, Field(examples=[["operator"]])] = []
    scopes: Names = []
    projects: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=100)]] | None,
        Field(min_length=1, max_length=100, description="Projects it is limited to; left out: as the caller is."),
    ] = None
    expires_s: Annotated[float | None, Field(gt=0, le=3_153_600_000, description="Seconds from now.")] = None
    env: Annotated[str, Field(min_length=1, max_length=16, pattern="^[a-z0-9]+$")] = DEFAULT_ENV
    tenant: Annotated[TenantName | None, Field(description="Another tenant: needs `host`.")] = None


class KeyRotation(BaseModel):
    """How a key is rotated."""

    model_config = ConfigDict(extra="forbid")
    grace_s: Annotated[float, Field(ge=0, le=MAX_GRACE_S, description="The old secret holds so long.")] = 86_400.0


@ROUTER.post("", status_code=201, responses=gives(KeyIssued, "Made.", status=201), response_class=Response)
async def create_key(wanted: NewKey, caller: Caller) -> Response:
    """Make a key. Its secret is in this answer and nowhere else.

    It can have no rights that the caller has not, and does not outlive the key that it is made with.
    """
    made = await caller.keys.create(**wanted.model_dump())
    return answer(made, 201, {"location": f"/v1/keys/{made.shown.key_id}"})


@ROUTER.get("", responses=gives_page(KeyShown, "A page of keys."), response_class=Response)
async def list_keys(
    caller: Caller,
    after: Annotated[str | None, Query(max_length=500)] = None,
    limit: Annotated[int, Query(ge=1, le=MOST)] = 50,
    tenant: Tenant = None,
) -> Response:
    """List keys by id, also those that hold no longer."""
    return answer(await caller.keys.page(after=after, limit=limit, tenant=tenant))


@ROUTER.get("/{key}", responses=gives(KeyShown, "The key."), response_class=Response)
async def show_key(key: KeyId, caller: Caller, tenant: Tenant = None) -> Response:
    """Show a key, without its secret."""
    return answer(await caller.keys.show(key, tenant=tenant))


@ROUTER.post("/{key}/rotate", responses=gives(KeyIssued, "Rotated."), response_class=Response)
async def rotate_key(key: KeyId, wanted: KeyRotation, caller: Caller, tenant: Tenant = None) -> Response:
    """Give a key a new secret, which is in this answer and nowhere else."""
    return answer(await caller.keys.rotate(key, grace_s=wanted.grace_s, tenant=tenant))


@ROUTER.delete("/{key}", responses=gives(KeyShown, "Revoked."), response_class=Response)
async def revoke_key(key: KeyId, caller: Caller, tenant: Tenant = None) -> Response:
    """Revoke a key: within a second it opens nothing any more, for good."""
    return answer(await caller.keys.revoke(key, tenant=tenant))


LEAN: Final[tuple[Lean, ...]] = ()
TYPES: Final = (KeyIssued, KeyShown)
