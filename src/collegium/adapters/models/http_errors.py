"""HTTP answers and transport failures of model servers, as errors of the ``ModelError`` tree."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec

from collegium.domain.errors import (
    ContextTooLong,
    ModelAuthError,
    ModelError,
    ModelNotFound,
    ModelRateLimited,
    ModelRequestError,
    ModelUnavailable,
)

# Providers quote keys in their texts, masked or not; nothing that looks like one is passed on.
_KEY_LIKE = re.compile(r"\b(?:sk|pk|rk|gsk|xai)[-_][\w*.-]{6,}|\bAIza[\w*-]{10,}|\bBearer\s+[\w.~+/=*-]{6,}")
_CONTEXT_CODES = {"context_length_exceeded", "exceed_context_size_error"}
_CONTEXT_TEXT = re.compile(
    r"maximum context length|context (?:length|size|window)|prompt is too long|input is too long|too many tokens"
    r"|exceeds the maximum number of tokens",
    re.IGNORECASE,
)
_NO_CREDIT = {"insufficient_quota", "billing_hard_limit_reached", "billing_error"}


class _Problem(msgspec.Struct):
    """What a server says of a failure: ``{"error": {...}}`` in its many shapes, flattened."""

    message: str = ""
    code: str = ""
    kind: str = ""
    is_json: bool = True


def blot_keys(text: str) -> str:
    """``text`` with ``***`` for everything that looks like a provider's key; JSON stays JSON."""
    return _KEY_LIKE.sub("***", text)


def scrub(text: str, secret: str = "") -> str:
    """``text`` without ``secret`` and without anything that looks like a key, on one line, at most 300 characters."""
    if secret:
        text = text.replace(secret, "***")
    text = " ".join(blot_keys(text).split())
    return text if len(text) <= 300 else text[:297] + "..."


def retry_after_s(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds to wait, from ``retry-after-ms`` or ``Retry-After`` (seconds or an HTTP date), or None.

    Source: RFC 9110, section 10.2.3.
    """
    for name, scale in (("retry-after-ms", 1_000.0), ("Retry-After", 1.0)):
        text = headers.get(name, "").strip()
        if text:
            try:
                return max(0.0, float(text) / scale)
            except ValueError:
                break
    else:
        return None
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max(0.0, (at - now).total_seconds())


def status_error(
    status: int, body: bytes, *, where: str, model: str, wait_s: float | None = None, secret: str = ""
) -> ModelError:
    """The error for an answer with ``status``; ``where`` is the URL asked, ``secret`` is kept out of the text."""
    problem = _problem(body)
    said = scrub(problem.message, secret)
    text = f"{where} answered {status}" + (f": {said}" if said else "")
    fields: dict[str, Any] = {"status": status, "url": where, "model": model, "provider_code": problem.code}
    return _known_problem(problem, text, wait_s, fields) or _by_status(status, problem, text, wait_s, fields)


def stream_error(error: Mapping[str, Any] | str, *, where: str, model: str, secret: str = "") -> ModelError:
    """The error for a failure that a server reports inside a stream that began well."""
    code = error.get("code") if not isinstance(error, str) else None
    status = code if isinstance(code, int) and 400 <= code < 600 else 500
    body = msgspec.json.encode({"error": error})
    return status_error(status, body, where=where, model=model, secret=secret)


def transport_error(error: BaseException, *, where: str, model: str) -> ModelError:
    """The error for a call that got no whole answer: refused, unreachable, too slow, broken off."""
    import aiohttp  # whoever asks has imported it; commands that call no model start without it

    if isinstance(error, aiohttp.ConnectionTimeoutError):
        what = "did not accept a connection in time"
    elif isinstance(error, aiohttp.SocketTimeoutError):
        what = "sent nothing for too long"
    elif isinstance(error, TimeoutError):
        what = "did not end its reply within the total time of a call"
    elif isinstance(error, aiohttp.ClientConnectorDNSError):
        what = "has a host name that cannot be resolved; check the URL and the network"
    elif isinstance(error, aiohttp.ClientConnectorCertificateError):
        what = "shows a certificate that is not trusted"
    elif isinstance(error, aiohttp.ClientConnectorError):
        what = f"cannot be reached ({error.os_error.strerror or 'no connection'}); is the server running?"
    elif isinstance(error, aiohttp.InvalidURL):
        return ModelNotFound(f"{where} is not a URL that can be called; correct the base URL", url=where, model=model)
    else:
        what = f"broke the connection ({type(error).__name__})"
    return ModelUnavailable(f"{where} {what}", url=where, model=model)


def not_an_api(where: str, model: str) -> ModelNotFound:
    """The error for a web page where a model was expected."""
    return ModelNotFound(
        f"{where} answered with a web page, not as a model API: correct the base URL (it often ends in /v1)",
        url=where,
        model=model,
    )


def _problem(body: bytes) -> _Problem:
    try:
        data = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return _Problem(is_json=False)
    if isinstance(data, list) and data:  # Google wraps errors of streams in a list
        data = data[0]
    error = data.get("error", data) if isinstance(data, dict) else data
    if not isinstance(error, dict):
        return _Problem(message=str(error))
    message = error.get("message") or error.get("detail") or ""
    return _Problem(
        message=message if isinstance(message, str) else str(message),
        code=str(error.get("code") or ""),
        kind=str(error.get("type") or error.get("status") or ""),
    )


def _known_problem(p: _Problem, text: str, wait_s: float | None, fields: dict[str, Any]) -> ModelError | None:
    if p.code in _CONTEXT_CODES or p.kind in _CONTEXT_CODES:
        return ContextTooLong(text + "; send less, or use a model with a larger context", **fields)
    if p.code in _NO_CREDIT or p.kind in _NO_CREDIT:
        return ModelAuthError(text + "; the account has no credit left: see the provider's billing page", **fields)
    if p.kind == "overloaded_error":
        return ModelRateLimited(text, retry_after_s=wait_s, **fields)
    return None


def _by_status(status: int, p: _Problem, text: str, wait_s: float | None, fields: dict[str, Any]) -> ModelError:
    if status in (401, 403):
        return ModelAuthError(text + "; check the key and what it may use", **fields)
    if status == 402:
        return ModelAuthError(text + "; the account has no credit left", **fields)
    if status in (404, 405) or 300 <= status < 400:
        if p.is_json and p.message and status == 404:
            return ModelNotFound(text + f"; asked for the model {fields['model']!r}", **fields)
        return ModelNotFound(text + "; correct the base URL (it often ends in /v1)", **fields)
    if status in (429, 529):
        return ModelRateLimited(text, retry_after_s=wait_s, **fields)
    if status in (408, 409, 425) or status >= 500:
        return ModelUnavailable(text, retry_after_s=wait_s, **fields)
    if status == 413 or _CONTEXT_TEXT.search(p.message):
        return ContextTooLong(text + "; send less, or use a model with a larger context", **fields)
    return ModelRequestError(text, **fields)
