"""API keys as one principal may see and change them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal

import msgspec

from collegium.app import Collegium
from collegium.domain.api_key import DEFAULT_ENV, ApiKey
from collegium.domain.chat import Json
from collegium.domain.errors import NotAllowed, UsageError
from collegium.domain.principal import HOST, Principal, scopes_of
from collegium.runtime.keys import Issued, Keys
from collegium.server.access.deeds import noted
from collegium.server.access.page import Page, cursor, place
from collegium.server.access.reach import Reach


class KeyShown(msgspec.Struct, frozen=True, kw_only=True):
    """A key as people see it: all but its secret, which is kept nowhere."""

    key_id: str
    status: Literal["holds", "expired", "revoked"]
    env: str
    tenant: str
    name: str
    roles: tuple[str, ...]
    scopes: tuple[str, ...]
    projects: tuple[str, ...] | None
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    last_used_at: datetime | None
    rotated_at: datetime | None
    old_until: datetime | None
    revoked_at: datetime | None


class KeyIssued(msgspec.Struct, frozen=True, kw_only=True):
    """A key with its secret, which is shown this once."""

    key: str
    shown: KeyShown


class KeyAccess:
    """The keys of the principal's tenant, and with ``host`` those of another one that is named.

    Nobody gives away what he has not: a key that is made or rotated has no more rights than whoever does it, and does
    not outlive the key that it was made with. Whoever is limited to projects sees the keys that have no others.
    """

    def __init__(self, app: Collegium, principal: Principal, keys: Keys | None) -> None:
        self._app = app
        self._principal = principal
        self._given = keys
        self._reach = Reach(app, principal)

    async def create(
        self,
        *,
        name: str = "",
        roles: Sequence[str] = (),
        scopes: Sequence[str] = (),
        projects: Sequence[str] | None = None,
        expires_s: float | None = None,
        env: str = DEFAULT_ENV,
        tenant: str | None = None,
    ) -> KeyIssued:
        """A new key. Raises ``NotAllowed`` for rights that the principal has not, ``UsageError``."""
        self._principal.require("keys:write")
        now = self._app.now()
        expires_at = None if expires_s is None else now + timedelta(seconds=expires_s)
        until = await self._until()
        expires_at = until if expires_at is None else expires_at
        self._check(scopes_of(roles, scopes), expires_at, until)
        issued = await self._keys.create(
            tenant=self._tenant(tenant),
            created_by=self._principal.id,
            name=name,
            roles=roles,
            scopes=scopes,
            projects=self._reach.narrowest(projects),
            expires_at=expires_at,
            env=env,
        )
        await self._note("created", issued.key)
        return self._issued(issued)

    async def page(self, *, after: str | None = None, limit: int = 50, tenant: str | None = None) -> Page[KeyShown]:
        """Keys by id. Raises ``UsageError`` for a cursor that is none."""
        self._principal.require("keys:write")
        behind = place("keys", after)
        found = await self._keys.page(
            self._tenant(tenant), after="" if behind is None else str(behind[0]), limit=limit + 1
        )
        looked = found[:limit]
        items = [self._shown(key) for key in looked if self._is_seen(key)]
        return Page(items=items, next=cursor("keys", looked[-1].id) if len(found) > limit else None)

    async def show(self, key: str, *, tenant: str | None = None) -> KeyShown:
        """One of them. Raises ``NotFound``."""
        self._principal.require("keys:write")
        return self._shown(await self._get(key, self._tenant(tenant)))

    async def revoke(self, key: str, *, tenant: str | None = None) -> KeyShown:
        """Lets it open nothing any more, within a second everywhere. Raises ``NotFound``."""
        self._principal.require("keys:write")
        await self._get(key, self._tenant(tenant))
        revoked = await self._keys.revoke(key, tenant=self._tenant(tenant))
        await self._note("revoked", revoked)
        return self._shown(revoked)

    async def rotate(self, key: str, *, grace_s: float, tenant: str | None = None) -> KeyIssued:
        """A new secret for it. Raises ``NotFound``; ``NotAllowed`` for a key that may more than the principal."""
        self._principal.require("keys:write")
        of = self._tenant(tenant)
        before = await self._get(key, of)
        self._check(scopes_of(before.roles, before.scopes), before.expires_at, await self._until())
        rotated = await self._keys.rotate(key, tenant=of, grace_s=grace_s)
        await self._note("rotated", rotated.key)
        return self._issued(rotated)

    async def _get(self, key: str, tenant: str) -> ApiKey:
        found = await self._keys.get(key, tenant=tenant)
        if not self._is_seen(found):
            self._reach.known("key", key)
        return found

    def _is_seen(self, key: ApiKey) -> bool:
        """Whether it opens no more projects than the principal has."""
        return (key.projects is not None and all(map(self._reach.has, key.projects))) or self._reach.projects is None

    @property
    def _keys(self) -> Keys:
        if self._given is None:
            raise UsageError("this server has no keys: everybody who reaches it may do everything")
        return self._given

    def _tenant(self, tenant: str | None) -> str:
        """The tenant whose keys are meant. Raises ``NotAllowed`` for another one without ``host``."""
        if tenant is not None and tenant != self._principal.tenant:
            self._principal.require(HOST)
        return tenant or self._principal.tenant

    async def _until(self) -> datetime | None:
        """When the key ends by which the principal came; None for one that does not, or for none."""
        principal = self._principal
        if principal.kind != "key" or not principal.session:
            return principal.expires_at if principal.kind == "key" else None
        # The session ends sooner than the key that it was opened with.
        key = await self._keys.principal(principal.credential.partition(":")[2])
        return principal.expires_at if key is None else key.expires_at

    def _check(self, scopes: frozenset[str], expires_at: datetime | None, until: datetime | None) -> None:
        more = sorted(scopes - self._principal.scopes)
        if more:
            raise NotAllowed(f"{self._principal.id} cannot give away what it has not: {', '.join(more)}", scopes=more)
        if until is not None and (expires_at is None or expires_at > until):
            raise NotAllowed(
                f"{self._principal.id} cannot hand out a key that outlives it: it ends {until.isoformat()}"
            )

    async def _note(self, done: str, key: ApiKey) -> None:
        details: Json = {"name": key.name, "roles": list(key.roles), "scopes": list(key.scopes)}
        if key.projects is not None:
            details["projects"] = list(key.projects)
        await noted(
            self._app, self._principal, f"keys.{done}", key.id, rule="keys:write", details=details, tenant=key.tenant
        )

    def _issued(self, issued: Issued) -> KeyIssued:
        return KeyIssued(key=issued.text, shown=self._shown(issued.key))

    def _shown(self, key: ApiKey) -> KeyShown:
        return KeyShown(
            key_id=key.id,
            status=key.standing(self._app.now()),
            **{name: getattr(key, name) for name in KeyShown.__struct_fields__[2:]},
        )
