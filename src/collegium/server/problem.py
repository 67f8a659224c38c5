"""Problems: every error that leaves by HTTP, as a document of RFC 9457."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from collegium.domain.errors import HTTP_STATUS, Changed, CollegiumError, InProgress, NotAllowed, NotAuthenticated
from collegium.domain.redaction import Redactor, masked

RETRY_AFTER_S = 2
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}\Z")
_BEARER = 'Bearer realm="collegium"'
_encoder = msgspec.json.Encoder(enc_hook=str)


def problem(
    request: Request, status: int, code: str, detail: str, *, headers: Mapping[str, str] | None = None, **fields: Any
) -> Response:
    """The answer ``status`` with a problem document; 503 and 429 say when to come again.

    Args:
        request: What could not be answered as asked.
        status: Of the answer.
        code: Stable, for programs.
        detail: One sentence for a person.
        headers: More of them.
        fields: More members of the document.

    Source: RFC 9457; RFC 9110, section 10.2.3 (Retry-After).
    """
    document = members(status, code, masked(detail), trace_id(request))
    sent = {"cache-control": "no-store"}
    if status in (429, 503) or code == InProgress.code:
        sent["retry-after"] = str(RETRY_AFTER_S)
    body = _redacted(request, _encoder.encode(fields | document))
    return Response(body, status, {**sent, **(headers or {})}, media_type="application/problem+json")


def members(status: int, code: str, detail: str, trace: str) -> dict[str, str | int]:
    """What every problem document has."""
    return {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
        "trace_id": trace,
    }


def _redacted(request: Request, body: bytes) -> bytes:
    """``body`` without the secrets of this installation, whatever brought them there."""
    redactor: Redactor | None = getattr(request.app.state, "redactor", None) if "app" in request.scope else None
    return body if redactor is None else redactor.known(body.decode()).encode()


def from_error(request: Request, error: CollegiumError) -> Response:
    """The answer for an error of the tree, with the status of its class."""
    status = next(HTTP_STATUS[c] for c in type(error).__mro__ if c in HTTP_STATUS)
    return problem(request, status, error.code, error.message, headers=_headers(request, error))


def _headers(request: HTTPConnection, error: CollegiumError) -> dict[str, str]:
    """What whoever is refused has to show, or to look at again. Source: RFC 6750, section 3."""
    if isinstance(error, NotAuthenticated):
        is_shown = "authorization" in request.headers
        return {"www-authenticate": f'{_BEARER}, error="invalid_token"' if is_shown else _BEARER}
    if isinstance(error, NotAllowed) and isinstance(scope := error.fields.get("scope"), str):
        return {"www-authenticate": f'{_BEARER}, error="insufficient_scope", scope="{scope}"'}
    if isinstance(error, Changed) and isinstance(tag := error.fields.get("etag"), str):
        return {"etag": tag}
    return {}


def trace_id(request: HTTPConnection) -> str:
    """The id under which the request is found in logs and traces: the caller's own, or a new one.

    Source: W3C Trace Context, version 00.
    """
    kept: str | None = getattr(request.state, "trace_id", None)
    if kept is None:
        given = _TRACEPARENT.match(request.headers.get("traceparent", ""))
        kept = given[1] if given is not None and int(given[1], 16) else secrets.token_hex(16)
        request.state.trace_id = kept
    return kept
