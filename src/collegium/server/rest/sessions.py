"""``/auth`` and ``/v1/tickets``: how people log in at the console, and what sockets are opened with."""

from __future__ import annotations

import html
from datetime import datetime
from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request as LeanRequest
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from collegium.domain.api_key import MAX_KEY_CHARS
from collegium.domain.errors import NotAllowed, NotFound, UsageError
from collegium.domain.principal import Principal
from collegium.server.access.deeds import noted
from collegium.server.auth.cookies import LOGIN
from collegium.server.auth.doorkeeper import Doorkeeper
from collegium.server.auth.login import LIFE_S, Login
from collegium.server.auth.origin import check_next, check_sender, is_own
from collegium.server.auth.slips import NewSlip
from collegium.server.rates.limiter import Limiter
from collegium.server.rest.answer import NO_STORE, answer, gives
from collegium.server.rest.openapi import Lean

ROUTER: Final = APIRouter(tags=["sessions"])
_POLICY: Final = {"content-security-policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'"}
"""A page without scripts; one in a sandbox would not go on by itself."""
_GO_ON: Final = '<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0;url={0}"><title>.</title>'


class SessionShown(msgspec.Struct, frozen=True, kw_only=True):
    """Who is logged in; ``csrf_token`` goes into ``X-CSRF-Token`` with every change that comes with a cookie."""

    principal: str
    tenant: str
    kind: str
    scopes: tuple[str, ...]
    expires_at: datetime | None
    csrf_token: str | None = None


class TicketMade(msgspec.Struct, frozen=True, kw_only=True):
    """A ticket: it opens one socket or event stream, as ``?ticket=``, until ``expires_at``."""

    ticket: str
    expires_at: datetime


class KeyLogin(BaseModel):
    """A key to log in with."""

    model_config = ConfigDict(extra="forbid")
    key: Annotated[str, Field(min_length=1, max_length=MAX_KEY_CHARS)]


@ROUTER.post(
    "/auth/session", status_code=201, responses=gives(SessionShown, "Logged in.", status=201), response_class=Response
)
async def log_in_with_key(wanted: KeyLogin, request: Request) -> Response:
    """Log in by key: the browser gets a session's cookie, which no script reads, instead of the key."""
    door = _door(request)
    if is_own(request, door.policy.public_url) is False:
        raise NotAllowed("pages of other sites log nobody in here")
    principal = await door.keys.identify(wanted.key)
    made = await _opened(request, door, principal)
    token = door.cookies.token(made.text)
    response = answer(_shown(principal, made.slip.expires_at, token), 201)
    door.cookies.open(request, response, made)
    return response


@ROUTER.get("/auth/session", responses=gives(SessionShown, "Who asks."), response_class=Response)
async def show_session(request: Request) -> Response:
    """Show who asks, by whatever credential, and what they may do."""
    door = _door(request)
    principal = await door.identify(request)
    text = door.cookies.session(request) if principal.session else None
    return answer(_shown(principal, principal.expires_at, None if text is None else door.cookies.token(text)))


@ROUTER.post("/auth/logout", status_code=204, response_class=Response)
async def log_out(request: Request) -> Response:
    """End the session of the cookie, at once."""
    door = _door(request)
    text = door.cookies.session(request)
    response = Response(status_code=204, headers=NO_STORE)
    if text is not None:
        check_sender(request, door.policy.public_url, door.cookies.token(text))
        await door.end_session(text)
        door.cookies.close(request, response)
    return response


@ROUTER.post(
    "/v1/tickets", status_code=201, responses=gives(TicketMade, "A ticket.", status=201), response_class=Response
)
async def make_ticket(request: Request) -> Response:
    """Make a ticket for one socket or event stream, which browsers can send no header with. It holds half a minute."""
    made = await _door(request).make_ticket(request.state.principal)
    return answer(TicketMade(ticket=made.text, expires_at=made.slip.expires_at), 201)


async def _login(request: LeanRequest) -> Response:
    door, login = _with_login(request)
    next_path = check_next(request.query_params.get("next") or "/")
    begun = await login.begin(_origin(request, door), next_path=next_path)
    response = RedirectResponse(begun.url, 303, NO_STORE)
    door.cookies.write(request, response, LOGIN, begun.cookie, LIFE_S, same_site="lax")
    return response


async def _callback(request: LeanRequest) -> Response:
    door, login = _with_login(request)
    asked = request.query_params
    principal, next_path = await login.finish(
        _origin(request, door),
        cookie=door.cookies.read(request, LOGIN),
        state=asked.get("state", ""),
        code=asked.get("code", ""),
        issuer=asked.get("iss"),
    )
    made = await _opened(request, door, principal)
    # A page that goes on by itself: for a redirect the browser would still come from another site, and leave the
    # session's cookie, which is strict, behind.
    response = HTMLResponse(_GO_ON.format(html.escape(check_next(next_path))), headers={**NO_STORE, **_POLICY})
    door.cookies.write(request, response, LOGIN, "", 0, same_site="lax")
    door.cookies.open(request, response, made)
    return response


async def _opened(request: LeanRequest, door: Doorkeeper, principal: Principal) -> NewSlip:
    """A session for ``principal``, of which the log of its tenant says that it was opened.

    It counts as a change of whoever logs in. Raises ``RateLimited``.
    """
    limiter: Limiter | None = request.app.state.faces.limiter
    if limiter is not None:  # these paths are open to all, so nobody has counted yet who comes in
        await limiter.take(principal, "POST", "/auth/session")
    made = await door.open_session(principal)
    app = request.app.state.opened()
    await noted(app, principal, "sessions.opened", made.digest[:16], rule="authenticated")
    return made


def _door(request: LeanRequest) -> Doorkeeper:
    """What keeps sessions. Raises ``UsageError`` where nobody need log in at all."""
    door = request.app.state.authenticator
    if not isinstance(door, Doorkeeper):
        raise UsageError("this server has no sessions: everybody who reaches it may do everything")
    return door


def _with_login(request: LeanRequest) -> tuple[Doorkeeper, Login]:
    door = request.app.state.authenticator
    if not isinstance(door, Doorkeeper) or door.login is None:
        raise NotFound("there is no identity provider to log in at: log in by key")
    return door, door.login


def _origin(request: LeanRequest, door: Doorkeeper) -> str:
    """What the browser knows this server by."""
    return door.policy.public_url or f"{request.url.scheme}://{request.url.netloc}"


def _shown(principal: Principal, expires_at: datetime | None, token: str | None) -> SessionShown:
    return SessionShown(
        principal=principal.id,
        tenant=principal.tenant,
        kind=principal.kind,
        scopes=tuple(sorted(principal.scopes)),
        expires_at=expires_at,
        csrf_token=token,
    )


def _text(name: str, *, most: int) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": {"type": "string", "maxLength": most}}


LEAN: Final = (
    Lean(
        Route("/auth/login", _login, methods=["GET"]),
        {
            "tags": ["sessions"],
            "operationId": "log_in",
            "summary": "Log in at the identity provider",
            "security": [{}],
            "parameters": [_text("next", most=2_000)],
            "responses": {"303": {"description": "Goes on at the identity provider."}},
        },
    ),
    Lean(
        Route("/auth/callback", _callback, methods=["GET"]),
        {
            "tags": ["sessions"],
            "operationId": "finish_login",
            "summary": "Come back from the identity provider",
            "security": [{}],
            "parameters": [_text("state", most=200), _text("code", most=4_096), _text("iss", most=2_000)],
            "responses": {
                "200": {
                    "description": "Logged in; the page goes on to what was asked for.",
                    "content": {"text/html": {"schema": {"type": "string"}}},
                }
            },
        },
    ),
)
TYPES: Final = (SessionShown, TicketMade)
