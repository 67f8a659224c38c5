"""Deeds of a principal, as they enter the administrative log of its tenant.

Whatever changes something says so, in two lines, before it answers::

    from collegium.server.access.deeds import noted

    await noted(self._app, self._principal, "stops.put", f"{kind}:{name}", rule="stops:write", reason=reason)
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final

from starlette.requests import HTTPConnection
from starlette.types import Scope

from collegium.app import Collegium
from collegium.domain.chat import Json
from collegium.domain.deed import Decision, Deed, LogNoted
from collegium.domain.principal import Principal
from collegium.runtime.admin_log import AdminLog
from collegium.server.problem import trace_id


class Origin:
    """Where a request came from, and under which id logs and traces have it; looked up when somebody asks."""

    __slots__ = ("_scope",)

    def __init__(self, scope: Scope | None = None) -> None:
        self._scope = scope

    @property
    def address(self) -> str:
        """The address at the other end: of whoever asks, or of a proxy before this server."""
        client = None if self._scope is None else self._scope.get("client")
        return "" if client is None else str(client[0])

    @property
    def trace(self) -> str:
        """The id of the request."""
        return "" if self._scope is None else trace_id(HTTPConnection(self._scope))


ORIGIN: Final[ContextVar[Origin]] = ContextVar("origin")
"""The request that is being answered; ``server.gate`` sets it. Without one: the host's own command."""


def log_of(app: Collegium) -> AdminLog:
    """The administrative log of the stores that ``app`` works on."""
    return AdminLog(app.stores.journal, now=app.now)


async def noted(
    app: Collegium,
    principal: Principal,
    action: str,
    object: str = "",  # noqa: A002  what was acted on; the word that logs have for it
    *,
    rule: str = "",
    reason: str = "",
    decision: Decision = "allowed",
    details: Json | None = None,
    tenant: str | None = None,
) -> Deed:
    """Writes a line into the log of the principal's tenant; it is durable once this has returned.

    Called after what it tells of and before the caller is answered: who gets no answer has to look or ask again.

    Args:
        app: Where.
        principal: Who did it.
        action: ``<what>.<done>``, e.g. ``keys.created``.
        object: Its id; never a secret.
        rule: What decided, as a rule the scope.
        reason: In the principal's words.
        decision: Whether it was let.
        details: More of it; no secrets, no contents.
        tenant: Whose log, if not that of the principal's tenant.

    Raises:
        StoreError: it could not be written; what it tells of was done.
    """
    origin = ORIGIN.get(Origin())
    line = LogNoted(
        actor=principal.id,
        action=action,
        object=object,
        decision=decision,
        rule=rule,
        reason=reason,
        address=origin.address,
        trace=origin.trace,
        credential=principal.credential,
        details=details or {},
    )
    (deed,) = await log_of(app).note(tenant or principal.tenant, line)
    return deed
