"""API keys: made, shown, looked up, rotated, revoked.

A key is one record among those of all tenants, by its id. Of the secret only an HMAC is kept, with a pepper that is not
in the store: a copy of the store lets nobody in. A look at a record is believed for a second, so that a busy key costs
one HMAC per request, and one that was revoked lets nobody in a second later.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final, NamedTuple

import msgspec

from collegium.domain.api_key import DEFAULT_ENV, MAX_NAME_CHARS, ApiKey, check_env, is_key_id, new_id, new_text, parse
from collegium.domain.errors import CollegiumError, Conflict, NotAuthenticated, NotFound, UsageError, WrongState
from collegium.domain.principal import Principal, check_project, check_tenant, scopes_of
from collegium.domain.record import Condition, Record
from collegium.ports import Clock, Records

KIND: Final = "api_key"
TENANT: Final = "~keys"
"""The tenant of the records; no principal's is called so."""
FRESH_S: Final = 1.0
USED_EVERY_S: Final = 60.0
MAX_GRACE_S: Final = 30 * 86_400.0
_MANY: Final = 10_000
_log = logging.getLogger("collegium.auth")


class Issued(NamedTuple):
    """A key with its text, which is shown this once."""

    key: ApiKey
    text: str


class _Look(NamedTuple):
    key: ApiKey
    version: int
    at_s: float


class Keys:
    """The keys of all tenants.

    Args:
        records: Where they are kept.
        clock: Tells what has expired, and how old a look is.
        pepper: What the HMACs are made with; not in the store.
        entropy: ``entropy(n)`` returns n random bytes.
    """

    def __init__(self, records: Records, *, clock: Clock, pepper: bytes, entropy: Callable[[int], bytes]) -> None:
        self._records = records
        self._clock = clock
        self._pepper = pepper
        self._entropy = entropy
        self._sign = hmac.new(pepper, digestmod=hashlib.sha256)
        self._pepper_id = hmac.new(pepper, b"which pepper", hashlib.sha256).hexdigest()[:16]
        self._looks: dict[str, _Look] = {}
        self._has_any = False
        self._missed_at_s = float("-inf")

    async def create(
        self,
        *,
        tenant: str,
        created_by: str,
        name: str = "",
        roles: Sequence[str] = (),
        scopes: Sequence[str] = (),
        projects: Collection[str] | None = None,
        expires_at: datetime | None = None,
        env: str = DEFAULT_ENV,
    ) -> Issued:
        """A new key, durable. Raises ``UsageError`` for unknown roles and scopes, none at all, or a time that is over.

        Whether the caller may give such rights away is for the caller's face to judge.
        """
        check_tenant(tenant)
        if projects is not None and not projects:
            raise UsageError("a key that is limited to no project could see nothing: name one")
        for project in projects or ():
            check_project(project)
        if len(name) > MAX_NAME_CHARS or not name.isprintable():
            raise UsageError(f"the name of a key has at most {MAX_NAME_CHARS} characters, all of them printable")
        if not scopes_of(roles, scopes):
            raise UsageError("a key without roles and scopes could do nothing: give it one, as viewer or admin")
        now = self._clock.now()
        if expires_at is not None and expires_at <= now:
            raise UsageError(f"a key that expires at {expires_at:%Y-%m-%d %H:%M} has expired already")
        id_ = new_id(self._entropy)
        text = new_text(check_env(env), id_, self._entropy)
        key = ApiKey(
            id=id_,
            env=env,
            tenant=tenant,
            name=name,
            roles=tuple(dict.fromkeys(roles)),
            scopes=tuple(dict.fromkeys(scopes)),
            projects=None if projects is None else tuple(sorted(set(projects))),
            digest=self._digest(text),
            pepper=self._pepper_id,
            created_at=now,
            created_by=created_by,
            expires_at=expires_at,
        )
        await self._records.put(_record(key), expected=0)
        self._has_any = True
        return Issued(key, text)

    async def any(self) -> bool:
        """Whether a key was ever made, whatever became of it; a look that found none is believed for a second.

        Keys that were revoked count: revoking the last one must not open the door to everybody.
        """
        if not self._has_any:
            now_s = self._clock.monotonic()
            if now_s - self._missed_at_s > FRESH_S:
                self._has_any = bool(await self._records.find(KIND, TENANT, limit=1))
                self._missed_at_s = now_s
        return self._has_any

    async def identify(self, text: str) -> Principal:
        """Whoever shows this key. Raises ``NotAuthenticated``."""
        shown = parse(text)
        if shown is None:
            raise NotAuthenticated("this is no API key: they read clg_<env>_<id>_<secret>")
        look = await self._look(shown.id)
        digest = self._digest(text)
        if look is None or not self._is_of(look.key, shown.env, digest):
            raise NotAuthenticated("this key is not known here")
        key, now = look.key, self._clock.now()
        expires_at = key.expires_at
        if not hmac.compare_digest(digest, key.digest):
            expires_at = min(filter(None, (key.old_until, key.expires_at)))
        _require_valid(key, expires_at, now)
        if key.last_used_at is None or (now - key.last_used_at).total_seconds() >= USED_EVERY_S:
            await self._note_use(look, now)
        return principal_of(key, expires_at)

    async def principal(self, id_: str) -> Principal | None:
        """Whoever has the key of this id, as long as it holds; for sessions that were opened with it."""
        look = await self._look(id_)
        if look is None or look.key.standing(self._clock.now()) != "holds":
            return None
        return principal_of(look.key, look.key.expires_at)

    async def get(self, id_: str, *, tenant: str | None) -> ApiKey:
        """The key of that id. Raises ``NotFound``, also for another tenant's unless ``tenant`` is None."""
        return _read(await self._stored(id_, tenant))

    async def page(self, tenant: str | None, *, after: str = "", limit: int = 100) -> tuple[ApiKey, ...]:
        """Keys of a tenant, or of all, by id with ``id > after``."""
        of = [] if tenant is None else [Condition(field="tenant", op="=", value=tenant)]
        return tuple(_read(r) for r in await self._records.find(KIND, TENANT, of, after=after, limit=limit))

    async def revoke(self, id_: str, *, tenant: str | None) -> ApiKey:
        """The key, which lets nobody in any more: at once in this process, within a second in others.

        Raises ``NotFound``. Twice is harmless.
        """
        now = self._clock.now()
        return await self._change(
            id_, tenant, lambda k: k if k.revoked_at is not None else msgspec.structs.replace(k, revoked_at=now)
        )

    async def rotate(self, id_: str, *, tenant: str | None, grace_s: float) -> Issued:
        """The key with a new secret; the one before holds for ``grace_s`` seconds more, those before it no longer.

        Raises ``NotFound``; ``WrongState`` for a key that does not hold any more.
        """
        if not 0 <= grace_s <= MAX_GRACE_S:
            raise UsageError(f"the old secret may hold for 0 to {MAX_GRACE_S:,.0f} more seconds, not {grace_s:g}")
        now = self._clock.now()
        before = await self.get(id_, tenant=tenant)
        text = new_text(before.env, id_, self._entropy)

        def rotated(key: ApiKey) -> ApiKey:
            if key.standing(now) != "holds":
                raise WrongState(f"the key {id_} does not hold any more: make a new one", key=id_)
            until = now + timedelta(seconds=grace_s)
            return msgspec.structs.replace(
                key, digest=self._digest(text), pepper=self._pepper_id, rotated_at=now, old_digest=key.digest,
                old_until=until,
            )  # fmt: skip

        return Issued(await self._change(id_, tenant, rotated), text)

    def _digest(self, text: str) -> str:
        signing = self._sign.copy()
        signing.update(text.encode())
        return signing.hexdigest()

    def _is_of(self, key: ApiKey, env: str, digest: str) -> bool:
        """Whether ``digest`` is that of the key, or of the one before; both are compared, in constant time."""
        is_new = hmac.compare_digest(digest, key.digest)
        is_old = hmac.compare_digest(digest, key.old_digest or "")
        if key.pepper != self._pepper_id and not (is_new or is_old):
            _log.warning("the key %s was made with another pepper than this process has", key.id)
        return (is_new or is_old) and env == key.env

    async def _look(self, id_: str) -> _Look | None:
        now_s = self._clock.monotonic()
        known = self._looks.get(id_)
        if known is not None and now_s - known.at_s <= FRESH_S:
            return known
        record = await self._records.get(KIND, TENANT, id_)
        if record is None:
            self._looks.pop(id_, None)
            return None
        return self._keep(_read(record), record.version, now_s)

    def _keep(self, key: ApiKey, version: int, at_s: float) -> _Look:
        while len(self._looks) >= _MANY:
            del self._looks[next(iter(self._looks))]
        look = self._looks[key.id] = _Look(key, version, at_s)
        return look

    async def _note_use(self, look: _Look, now: datetime) -> None:
        """Writes down that it is used. Where that cannot be, it is let in all the same: the next one writes it."""
        used = msgspec.structs.replace(look.key, last_used_at=now)
        self._keep(used, look.version, look.at_s)  # whoever comes meanwhile does not write it too
        with suppress(CollegiumError):
            stored = await self._records.put(_record(used), expected=look.version)
            current = self._looks.get(used.id)
            if current is not None and current.version == look.version:
                self._keep(used, stored.version, look.at_s)

    async def _stored(self, id_: str, tenant: str | None) -> Record:
        record = await self._records.get(KIND, TENANT, id_) if is_key_id(id_) else None
        if record is None or tenant not in (None, record.value["tenant"]):
            raise NotFound(f"there is no key {id_[:40]}", key=id_[:40])
        return record

    async def _change(self, id_: str, tenant: str | None, change: Callable[[ApiKey], ApiKey]) -> ApiKey:
        while True:
            at_s = self._clock.monotonic()
            record = await self._stored(id_, tenant)
            key = change(_read(record))
            try:
                stored = await self._records.put(_record(key), expected=record.version)
            except Conflict:  # its use was written down, or somebody else changed it: look again
                continue
            self._keep(key, stored.version, at_s)
            return key


_scopes_of: Final = lru_cache(maxsize=256)(scopes_of)
"""Asked with each request; few keys differ in them."""


def principal_of(key: ApiKey, expires_at: datetime | None) -> Principal:
    """Whoever holds the key."""
    return Principal(
        id=f"key:{key.id}",
        tenant=key.tenant,
        scopes=_scopes_of(key.roles, key.scopes),
        kind="key",
        expires_at=expires_at,
        credential=f"key:{key.id}",
        projects=None if key.projects is None else frozenset(key.projects),
    )


def _require_valid(key: ApiKey, expires_at: datetime | None, now: datetime) -> None:
    if key.revoked_at is not None:
        raise NotAuthenticated(f"the key {key.id} was revoked", key=key.id)
    if _is_over(expires_at, now):
        raise NotAuthenticated(f"the key {key.id} has expired", key=key.id)


def _is_over(expires_at: datetime | None, now: datetime) -> bool:
    return expires_at is not None and expires_at <= now


def _record(key: ApiKey) -> Record:
    return Record(kind=KIND, tenant=TENANT, key=key.id, value=msgspec.to_builtins(key))


def _read(record: Record) -> ApiKey:
    return msgspec.convert(record.value, ApiKey)
