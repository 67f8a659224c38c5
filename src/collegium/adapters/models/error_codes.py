"""Model errors by their stable codes, for scripts and cassettes."""

from __future__ import annotations

from collegium.domain import errors

MODEL_ERRORS: dict[str, type[errors.ModelError]] = {
    kind.code: kind
    for kind in (
        errors.ModelUnavailable,
        errors.ModelRateLimited,
        errors.ModelAuthError,
        errors.ModelNotFound,
        errors.ModelRequestError,
        errors.ContextTooLong,
        errors.ModelReplyError,
    )
}


def model_error(code: str, message: str, *, retry_after_s: float | None = None) -> errors.ModelError:
    """The error with ``code``; an unknown code gives a plain ``ModelError``."""
    kind = MODEL_ERRORS.get(code, errors.ModelError)
    if kind is errors.ModelRateLimited:
        return errors.ModelRateLimited(message, retry_after_s=retry_after_s)
    return kind(message) if retry_after_s is None else kind(message, retry_after_s=retry_after_s)
