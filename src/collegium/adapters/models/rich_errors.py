"""What pydantic-ai and the vendors' SDKs raise, as errors of the ``ModelError`` tree."""

from __future__ import annotations

from typing import Any

import aiohttp
import httpx2
from pydantic_ai import exceptions as pai

from collegium.adapters.models import http_errors
from collegium.domain import errors

# Decoding errors of the SDKs are ValueErrors; an answer of another shape than theirs ends in the other three.
_UNREADABLE = (ValueError, TypeError, AttributeError, KeyError)
FAILURES = (
    pai.AgentRunError,
    pai.UserError,
    aiohttp.ClientError,
    httpx2.HTTPError,
    TimeoutError,
    OSError,
    *_UNREADABLE,
)
"""Everything a call through an SDK is known to raise beside cancellation."""

# The most specific first.
_CATEGORIES: tuple[tuple[type[Exception], type[errors.ModelError], str], ...] = (
    (pai.ModelContextWindowExceededError, errors.ContextTooLong, "send less, or use a model with a larger context"),
    (pai.ModelAuthenticationError, errors.ModelAuthError, "check the key and what it may use"),
    (pai.ModelNotFoundError, errors.ModelNotFound, "check the model's name and the base URL"),
    (pai.ModelQuotaExceededError, errors.ModelAuthError, "the account has no credit left: see the billing page"),
    (pai.ModelRateLimitError, errors.ModelRateLimited, ""),
    (pai.ModelOverloadedError, errors.ModelRateLimited, ""),
    (pai.ModelRequestRejectedError, errors.ModelRequestError, ""),
    (pai.ModelAPIError, errors.ModelUnavailable, ""),
)


def as_model_error(error: BaseException, *, where: str, secret: str) -> errors.ModelError:
    """``error`` in the tree of ``domain/errors.py``; ``where`` names the model, ``secret`` stays out of the text."""
    if isinstance(error, pai.ModelHTTPError):
        return _http(error, where, secret)
    if type(error) is pai.ModelAPIError and isinstance(error.__cause__, ValueError | None):
        # Of no category and without a failed connection behind it: the answer could not be decoded.
        return errors.ModelReplyError(f"{where}: {http_errors.scrub(error.message, secret)}", model=where)
    if isinstance(error, pai.ModelAPIError):
        return _categorised(error, http_errors.scrub(error.message, secret), where)
    if isinstance(error, pai.UserError):
        return errors.ModelRequestError(
            f"{where} does not take the request: {http_errors.scrub(str(error), secret)}", model=where
        )
    if isinstance(error, aiohttp.ClientError | httpx2.TransportError | TimeoutError | OSError):
        return http_errors.transport_error(error, where=where, model=where)
    said = http_errors.scrub(str(error), secret)
    return errors.ModelReplyError(
        f"{where} sent a reply that cannot be read ({type(error).__name__}: {said})", model=where
    )


def _http(error: pai.ModelHTTPError, where: str, secret: str) -> errors.ModelError:
    body = error.body
    nested: Any = body.get("error", body) if isinstance(body, dict) else body
    said = nested.get("message", "") if isinstance(nested, dict) else nested or ""
    if isinstance(said, str) and said.lstrip()[:1] == "<":
        return http_errors.not_an_api(where, error.model_name)
    text = f"answered {error.status_code}: {http_errors.scrub(str(said), secret)}".removesuffix(": ")
    return _categorised(error, text, where)


def _categorised(error: pai.ModelAPIError, text: str, where: str) -> errors.ModelError:
    status = getattr(error, "status_code", None)
    kind, advice = _kind(error, status)
    text = f"{where} {text}" + (f"; {advice}" if advice else "")
    fields: dict[str, Any] = {"model": error.model_name, "status": status, "provider_code": error.provider_error_code}
    if kind is errors.ModelRateLimited:
        return errors.ModelRateLimited(text, retry_after_s=error.retry_after, **fields)
    return kind(text, retry_after_s=error.retry_after, **fields)


def _kind(error: pai.ModelAPIError, status: int | None) -> tuple[type[errors.ModelError], str]:
    for category, kind, advice in _CATEGORIES[:-1]:
        if isinstance(error, category):
            return kind, advice
    if status in (429, 529):
        return errors.ModelRateLimited, ""
    if status is not None and 400 <= status < 500 and status not in (408, 409, 425):
        return errors.ModelRequestError, ""
    return errors.ModelUnavailable, ""
