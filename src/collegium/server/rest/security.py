"""What the document says of credentials: which there are, which of them an operation takes, which scopes it needs.

Access alone decides (``server/access``); a test holds every line of this against it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from collegium.server.auth.cookies import SESSION
from collegium.server.auth.origin import CSRF_HEADER

SCHEMES: Final[Mapping[str, Any]] = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key (`clg_...`) or a token of the identity provider. On loopback without keys: nothing.",
    },
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": SESSION,
        "description": "A session of the console (`POST /auth/session`, `/auth/login`); on https its name begins with "
        "`__Host-`.",
    },
    "csrf": {
        "type": "apiKey",
        "in": "header",
        "name": CSRF_HEADER,
        "description": "The `csrf_token` of the session: goes with every change that comes with its cookie.",
    },
    "ticket": {
        "type": "apiKey",
        "in": "query",
        "name": "ticket",
        "description": "Of `POST /v1/tickets`, for half a minute and one event stream or socket.",
    },
}
_NOBODY: Final[list[dict[str, list[str]]]] = [{}]
_READS: Final = frozenset({"get", "head"})
_OPEN: Final = frozenset({"get /auth/login", "get /auth/callback", "post /auth/session"})
_STREAMS: Final = frozenset({"get /v1/runs/{run}/events"})
_SCOPES: Final[Mapping[str, tuple[str, ...]]] = {
    "runs:read": (
        "get /v1/runs", "get /v1/runs/{run}", "get /v1/runs/{run}/events", "get /v1/runs/{run}/files",
        "get /v1/runs/{run}/files/{path}", "get /v1/runs/{run}/check", "get /v1/uploads", "get /v1/uploads/{upload}",
        "get /v1/approvals", "get /v1/approvals/{approval}", "get /v1/schedules", "get /v1/schedules/{schedule}",
        "get /v1/stops",
    ),
    "runs:read knowledge:read": ("get /v1/runs/{run}/export",),
    "runs:write": (
        "post /v1/runs", "post /v1/runs/batch", "post /v1/runs/cancel", "post /v1/runs/{run}/cancel",
        "post /v1/runs/{run}/resume", "post /v1/runs/{run}/fork", "post /v1/runs/{run}/say",
        "post /v1/runs/{run}/feedback", "post /v1/uploads", "delete /v1/uploads/{upload}", "post /v1/schedules",
        "delete /v1/schedules/{schedule}", "post /v1/schedules/{schedule}/pause",
        "post /v1/schedules/{schedule}/resume",
    ),
    "approvals:decide runs:read": ("post /v1/approvals/{approval}/answer",),
    "stops:write": ("put /v1/stops/{kind}/{name}", "delete /v1/stops/{kind}/{name}"),
    "knowledge:read runs:read": ("get /v1/collections/{run}/documents", "get /v1/collections/{run}/search"),
    "agents:read": ("get /v1/workers", "get /v1/agents", "get /v1/agents/{agent}", "get /v1/models"),
    "tools:read": ("get /v1/tools", "get /v1/tools/{tool}"),
    "host": ("post /v1/workers/{worker}/drain", "get /v1/settings"),
    "host agents:read": ("post /v1/agents/{agent}/drain", "post /v1/agents/{agent}/resume"),
    "topics:read": ("get /v1/topics/{topic}/messages", "get /v1/dead-letters"),
    "topics:read host": ("get /v1/topics",),
    "topics:write": ("post /v1/topics/{topic}/messages",),
    "topics:write topics:read": ("post /v1/dead-letters/revive",),
    "usage:read": ("get /v1/usage",),
    "usage:read runs:read": ("get /v1/usage/runs",),
    "audit:read": ("get /v1/audit", "get /v1/audit/verify"),
    "privacy:write": ("post /v1/privacy/export", "post /v1/privacy/erase"),
    "keys:write": (
        "get /v1/keys", "post /v1/keys", "get /v1/keys/{key}", "delete /v1/keys/{key}", "post /v1/keys/{key}/rotate",
    ),
    "webhooks:write": (
        "get /v1/webhooks", "post /v1/webhooks", "get /v1/webhooks/{hook}", "delete /v1/webhooks/{hook}",
        "post /v1/webhooks/{hook}/rotate", "post /v1/webhooks/{hook}/enable", "post /v1/webhooks/{hook}/test",
        "get /v1/webhooks/{hook}/deliveries", "post /v1/webhooks/{hook}/deliveries/{message}/redeliver",
    ),
}  # fmt: skip
"""Operations by the scopes that every use of them needs, in the order in which they are asked for."""
_NEEDED: Final = {operation: scopes for scopes, operations in _SCOPES.items() for operation in operations}


def put_security(paths: Mapping[str, Mapping[str, dict[str, Any]]]) -> None:
    """Says of each operation what it takes, and as ``x-required-scope`` which scopes it needs; all of them."""
    for path, operations in paths.items():
        for method, operation in operations.items():
            name = f"{method} {path}"
            operation["security"] = _taken(name, is_read=method in _READS)
            scopes = _NEEDED.get(name)
            if scopes is not None:
                operation["x-required-scope"] = scopes
                said = operation.get("description", "")
                needs = " and ".join(f"`{scope}`" for scope in scopes.split())
                operation["description"] = f"{said}\n\nNeeds {needs}.".strip()


def _taken(operation: str, *, is_read: bool) -> list[dict[str, list[str]]]:
    if operation in _OPEN:
        return _NOBODY
    session: dict[str, list[str]] = {"session": []} if is_read else {"session": [], "csrf": []}
    taken: list[dict[str, list[str]]] = [{"bearer": []}, session]
    if operation in _STREAMS:
        taken.append({"ticket": []})
    return taken + _NOBODY
