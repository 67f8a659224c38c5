"""Problems: what a server answers when something is wrong, as the errors of the domain."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from collegium.domain import errors as e


class ServerError(e.CollegiumError):
    """The server answered with something that this client does not know."""

    code = "server"


def error_of(status: int, body: bytes, *, retry_after_s: float | None = None) -> e.CollegiumError:
    """The error that the answer stands for: of the class that has its code, else by its status."""
    try:
        found: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        found = {}
    document: dict[str, Any] = found if isinstance(found, dict) else {}
    code, text = str(document.get("code", "")), str(document.get("detail", ""))
    message = text or f"the server answered {status} and said nothing more"
    fields = {k: v for k, v in document.items() if k not in ("type", "title", "status", "detail", "code")}
    if status == 429:
        return e.RateLimited(message, retry_after_s=retry_after_s or 1.0)
    kind = _BY_CODE.get(code) or _BY_STATUS.get(status)
    if kind is e.InvalidPlan:
        return e.InvalidPlan((message.removeprefix("the plan cannot run: "),))
    if kind is not None:
        return kind(message, **fields)
    if status >= 500:
        return e.StoreUnavailable(message, status=status)
    return ServerError(message, status=status, **fields)


def _tree(kind: type[e.CollegiumError]) -> Iterator[type[e.CollegiumError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from _tree(below)


_BY_CODE: Final = {k.code: k for k in _tree(e.CollegiumError) if k is not e.CollegiumError and k is not ServerError}
_BY_STATUS: Final[dict[int, type[e.CollegiumError]]] = {
    400: e.UsageError,
    401: e.NotAuthenticated,
    403: e.NotAllowed,
    404: e.NotFound,
    405: e.UsageError,
    409: e.Conflict,
    412: e.Changed,
    413: e.TooLarge,
    422: e.UsageError,
    502: e.StoreUnavailable,
    503: e.StoreUnavailable,
    504: e.StoreUnavailable,
}
