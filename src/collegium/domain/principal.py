"""Principals: who asks, and what they may do.

Rights are scopes, ``<what>:<how>``. A role is a name for a set of them. A principal belongs to one tenant and never
sees another's; ``host`` alone speaks for the installation itself: its workers, its settings, keys of every tenant.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Final, Literal

import msgspec

from collegium.domain.errors import NotAllowed, UsageError

READ: Final = frozenset({
    "runs:read", "agents:read", "tools:read", "knowledge:read", "memories:read", "topics:read", "usage:read",
    "learning:read",
})  # fmt: skip
OPERATE: Final = READ | {"runs:write", "knowledge:write", "memories:write", "topics:write"}
DECIDE: Final = READ | {"approvals:decide"}
ADMIN: Final = OPERATE | DECIDE | {
    "tools:register", "agents:write", "keys:write", "audit:read", "stops:write", "privacy:write", "webhooks:write",
    "learning:write", "admin",
}  # fmt: skip
HOST: Final = "host"
SCOPES: Final = ADMIN | {HOST}
"""Every scope there is."""
ROLES: Final[Mapping[str, frozenset[str]]] = {
    "viewer": READ,
    "operator": OPERATE,
    "approver": DECIDE,
    "admin": ADMIN,
}
"""What each role may do."""
Kind = Literal["local", "key", "user", "agent"]
_TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z", re.ASCII)


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """Whoever asks.

    Attributes:
        id: Its name in journals and logs: ``local``, ``key:<id>``, ``user:<subject>``, ``agent:<name>``.
        tenant: Whose data it sees.
        scopes: What it may do.
        kind: How it is known.
        expires_at: From then on it is nobody any more.
        credential: ``key:<id>`` or ``user:<subject>``: what it showed itself by, and what rates are counted by.
        session: By what the session of the console is kept through which it came; empty for none.
        projects: The projects of the tenant that it is limited to; None for all of the tenant.
    """

    id: str
    tenant: str
    scopes: frozenset[str]
    kind: Kind
    expires_at: datetime | None = None
    credential: str = ""
    session: str = ""
    projects: frozenset[str] | None = None

    def may(self, scope: str) -> bool:
        """Whether ``scope`` is among its rights."""
        return scope in self.scopes

    def require(self, scope: str) -> None:
        """Raises ``NotAllowed`` if it has not the right."""
        if scope not in self.scopes:
            raise NotAllowed(f"{self.id} may not do this: it needs the scope {scope}", scope=scope, principal=self.id)

    def is_over(self, now: datetime) -> bool:
        """Whether its time is over."""
        return self.expires_at is not None and self.expires_at <= now

    @property
    def rights(self) -> tuple[str, ...] | None:
        """What its runs keep of its scopes, sorted; None for whoever uses this machine, whom nothing narrows."""
        return None if self.kind == "local" else tuple(sorted(self.scopes))

    def narrowed(self, scopes: Collection[str]) -> Principal:
        """The same with those of its rights alone that are in ``scopes``: rights are handed on, never added to."""
        return msgspec.structs.replace(self, scopes=self.scopes & frozenset(scopes))


def name_of(asker: str | Principal) -> str:
    """The name of whoever asks."""
    return asker if isinstance(asker, str) else asker.id


def rights_of(asker: str | Principal) -> tuple[str, ...] | None:
    """See ``Principal.rights``; whoever is known by a name alone is not narrowed."""
    return None if isinstance(asker, str) else asker.rights


def local(tenant: str) -> Principal:
    """Whoever uses this machine: may do everything."""
    return Principal(id="local", tenant=tenant, scopes=SCOPES, kind="local")


def agent_of(
    user: Principal,
    agent: str,
    *,
    role: Collection[str],
    task: Collection[str] | None = None,
    expires_at: datetime | None = None,
) -> Principal:
    """The principal of an agent that works for ``user``: it may do what all three may, and for no longer.

    Args:
        user: For whom it works; an agent where agents hand work on.
        agent: Its name.
        role: Scopes that agents of its kind have.
        task: Scopes that its task needs; None where the task does not say.
        expires_at: When its work ends at the latest.
    """
    narrowed = user.narrowed(role) if task is None else user.narrowed(role).narrowed(task)
    ends = [end for end in (user.expires_at, expires_at) if end is not None]
    return msgspec.structs.replace(narrowed, id=f"agent:{agent}", kind="agent", expires_at=min(ends, default=None))


def check_tenant(tenant: str) -> str:
    """``tenant``. Raises ``UsageError`` for what cannot be the name of one: collegium's own begin with ~."""
    if _TENANT.match(tenant) is None:
        raise UsageError(
            f"{tenant[:60]!r} cannot be a tenant: 1 to 100 letters, digits, dots, dashes and underscores, the first of "
            "them a letter or a digit",
            tenant=tenant[:60],
        )
    return tenant


def check_project(project: str) -> str:
    """``project``. Raises ``UsageError`` for what cannot be the name of one; it is a name within a tenant."""
    if _TENANT.match(project) is None:
        raise UsageError(
            f"{project[:60]!r} cannot be a project: 1 to 100 letters, digits, dots, dashes and underscores, the first "
            "of them a letter or a digit",
            project=project[:60],
        )
    return project


def scopes_of(roles: Collection[str], scopes: Collection[str] = ()) -> frozenset[str]:
    """The scopes of ``roles`` together with ``scopes``. Raises ``UsageError`` for a name that is none."""
    for role in roles:
        if role not in ROLES:
            raise UsageError(f"there is no role {role!r}: it is one of {', '.join(ROLES)}", role=role)
    for scope in scopes:
        if scope not in SCOPES:
            raise UsageError(f"there is no scope {scope!r}: it is one of {', '.join(sorted(SCOPES))}", scope=scope)
    return frozenset(scopes).union(*(ROLES[role] for role in roles))
