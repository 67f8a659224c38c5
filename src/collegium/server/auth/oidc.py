"""Tokens of the identity provider: JWTs that are checked here, and whom they speak of."""

from __future__ import annotations

import binascii
import hashlib
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import msgspec
from joserfc import jwt
from joserfc.errors import JoseError, UnsupportedAlgorithmError
from joserfc.jws import JWSRegistry
from joserfc.util import urlsafe_b64decode

from collegium.domain.errors import NotAuthenticated, UsageError
from collegium.domain.principal import ROLES, Principal, check_tenant, scopes_of
from collegium.ports import Clock
from collegium.server.auth.provider import Provider

MAX_TOKEN_CHARS: Final = 16_384
MAX_SUBJECT_CHARS: Final = 255
BELIEVED_S: Final = 60.0
"""A token that was checked is not checked again for so long, as long as it has not expired."""
_TYPES: Final = frozenset({"jwt", "at+jwt", "application/at+jwt"})
_LATEST_S: Final = 32_503_680_000.0
_MANY: Final = 10_000


class OidcPolicy(NamedTuple):
    """Whose tokens are taken, and what their users may do.

    Attributes:
        issuer: The provider.
        audience: What tokens have to be made for.
        algorithms: Signatures that are taken.
        leeway_s: So far its clock may be off.
        subject_claim: Claim with the user's name.
        tenant_claim: Claim with the tenant; None for none.
        tenant: Tenant of users whose token has none; None: they are refused.
        roles_claim: Claim with the user's roles there.
        roles: Roles and scopes here by theirs.
        default_roles: Roles and scopes of every user.
        projects_claim: Claim with the projects that the user is limited to; None: all of the tenant.
    """

    issuer: str
    audience: str
    algorithms: tuple[str, ...]
    leeway_s: float = 30.0
    subject_claim: str = "sub"
    tenant_claim: str | None = None
    tenant: str | None = None
    roles_claim: str = "roles"
    roles: Mapping[str, Sequence[str]] = {}
    default_roles: Sequence[str] = ()
    projects_claim: str | None = None


class _Registry(JWSRegistry):
    max_header_length = 4_096

    def get_alg(self, name: str) -> Any:
        """The algorithm; without a warning of old names, which providers go on to use."""
        if name not in (self.allowed or ()):
            raise UnsupportedAlgorithmError(f"{name} is not taken")
        return self.algorithms[name]


class Oidc:
    """Checks tokens.

    Args:
        policy: What is taken. Raises ``UsageError`` where it names roles that there are not.
        provider: Has the keys.
        clock: Tells what has expired.
    """

    def __init__(self, policy: OidcPolicy, provider: Provider, *, clock: Clock) -> None:
        self.policy = policy
        self.provider = provider
        self._clock = clock
        self._registry = _Registry(algorithms=list(policy.algorithms), strict_check_header=False)
        self._believed: dict[bytes, tuple[Principal, float]] = {}
        for wanted in (*policy.roles.values(), policy.default_roles):
            rights(wanted)

    async def identify(self, token: str) -> Principal:
        """The user a token speaks of. Raises ``NotAuthenticated``, ``IdentityUnavailable``."""
        name, now_s = hashlib.sha256(token.encode()).digest(), self._clock.monotonic()
        known, until_s = self._believed.get(name, (None, 0.0))
        if known is None or now_s >= until_s:
            known = self.principal(await self.claims(token, audience=self.policy.audience))
            while len(self._believed) >= _MANY:
                del self._believed[next(iter(self._believed))]
            self._believed[name] = (known, now_s + BELIEVED_S)
        if known.is_over(self._clock.now()):
            raise NotAuthenticated("the token has expired")
        return known

    async def claims(self, token: str, *, audience: str, nonce: str | None = None) -> dict[str, Any]:
        """What a token says, once its signature, issuer, audience and times were found right.

        Raises ``NotAuthenticated`` for whatever is wrong with it, without repeating any of it.
        """
        if len(token) > MAX_TOKEN_CHARS:
            raise NotAuthenticated(f"the token has {len(token):,} characters and {MAX_TOKEN_CHARS:,} are the most")
        header = _header(token)
        algorithm, kid = header.get("alg"), header.get("kid")
        if not isinstance(algorithm, str) or algorithm not in self.policy.algorithms:
            raise NotAuthenticated("the token is signed in a way that is not taken here")
        if str(header.get("typ", "JWT")).lower() not in _TYPES or not isinstance(kid, str | None):
            raise NotAuthenticated("this is no access token")
        key = await self.provider.key(kid, algorithm)
        try:
            found = jwt.decode(token, key, algorithms=[algorithm], registry=self._registry).claims
        except (JoseError, ValueError, TypeError, KeyError, RecursionError) as error:
            raise NotAuthenticated("the token is not signed by the identity provider") from error
        self._check(found, audience)
        if nonce is not None and found.get("nonce") != nonce:
            raise NotAuthenticated("the token belongs to another login: try again")
        return found

    def principal(self, claims: Mapping[str, Any]) -> Principal:
        """The user that ``claims`` speak of. Raises ``NotAuthenticated`` where they do not say who or whose."""
        policy = self.policy
        subject = claims.get(policy.subject_claim)
        if not isinstance(subject, str) or not 0 < len(subject) <= MAX_SUBJECT_CHARS or not subject.isprintable():
            raise NotAuthenticated(f"the token does not say whose it is, in the claim {policy.subject_claim}")
        tenant = None if policy.tenant_claim is None else _claim(claims, policy.tenant_claim)
        tenant = policy.tenant if tenant is None else tenant
        try:
            tenant = check_tenant(tenant if isinstance(tenant, str) else "")
        except UsageError as error:
            raise NotAuthenticated("the token does not say of which tenant its user is") from error
        theirs = _claim(claims, policy.roles_claim)
        theirs = theirs.split() if isinstance(theirs, str) else theirs if isinstance(theirs, list) else []
        ours = [one for name in theirs if isinstance(name, str) for one in policy.roles.get(name, ())]
        return Principal(
            id=f"user:{subject}",
            tenant=tenant,
            scopes=rights([*policy.default_roles, *ours]),
            kind="user",
            expires_at=datetime.fromtimestamp(min(_number(claims, "exp", 0.0) + policy.leeway_s, _LATEST_S), UTC),
            credential=f"user:{subject}",
            projects=None if policy.projects_claim is None else _projects(_claim(claims, policy.projects_claim)),
        )

    def _check(self, claims: Mapping[str, Any], audience: str) -> None:
        """Raises ``NotAuthenticated``. Source: RFC 7519, section 4.1; RFC 9068, section 4."""
        if claims.get("iss") != self.policy.issuer:
            raise NotAuthenticated("the token is of another issuer")
        made_for = claims.get("aud")
        if audience not in (made_for if isinstance(made_for, list) else [made_for]):
            raise NotAuthenticated("the token was made for somebody else")
        now, leeway = self._clock.now().timestamp(), self.policy.leeway_s
        if now >= _number(claims, "exp", float("-inf")) + leeway:
            raise NotAuthenticated("the token has expired")
        if max(_number(claims, "nbf", now), _number(claims, "iat", now)) > now + leeway:
            raise NotAuthenticated("the token does not hold yet")


def rights(names: Sequence[str]) -> frozenset[str]:
    """The scopes of roles and scopes together. Raises ``UsageError`` for a name that is neither."""
    roles = [name for name in names if name in ROLES]
    return scopes_of(roles, [name for name in names if name not in ROLES])


def _projects(claim: object) -> frozenset[str]:
    """The projects that a claim names: a list, or words. Without any the user reaches nothing, rather than all."""
    named = claim.split() if isinstance(claim, str) else claim if isinstance(claim, list) else []
    return frozenset(name for name in named if isinstance(name, str))


def _header(token: str) -> dict[str, Any]:
    parts = token.split(".")
    try:
        if len(parts) != 3 or not token.isascii():
            raise ValueError("it has not three parts")
        found: dict[str, Any] = msgspec.json.decode(urlsafe_b64decode(parts[0].encode()), type=dict[str, Any])
    except (ValueError, binascii.Error, msgspec.MsgspecError, RecursionError) as error:
        raise NotAuthenticated("this is no token, or only a part of one") from error
    return found


def _claim(claims: Mapping[str, Any], path: str) -> object:
    """The claim of that name, or the one that dots lead to, as in ``realm_access.roles``."""
    if path in claims:
        return claims[path]
    found: object = claims
    for name in path.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    return found


def _number(claims: Mapping[str, Any], name: str, default: float) -> float:
    """The time that a claim says, in seconds. Raises ``NotAuthenticated`` for what is none."""
    value = claims.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or abs(value) > 1e15:
        raise NotAuthenticated(f"the token's {name} is no time")
    return float(value)
