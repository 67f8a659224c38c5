"""Who may use a Collegium: keys and their pepper, the identity provider, and whether nobody need say who they are."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from collegium.adapters.clock import SystemClock
from collegium.adapters.pepper import check_pepper, read_or_make_pepper, read_pepper
from collegium.app import DEFAULT_TENANT, Collegium
from collegium.config import AuthSection, Settings
from collegium.domain.errors import StoreError, UsageError
from collegium.ports import Clock
from collegium.runtime.keys import Keys
from collegium.server.auth.doorkeeper import Doorkeeper, DoorPolicy, Secrets
from collegium.server.auth.login import Client, Login
from collegium.server.auth.oidc import Oidc, OidcPolicy
from collegium.server.auth.provider import Provider
from collegium.server.caller import Opened
from collegium.server.guard import is_loopback
from collegium.wiring import open_collegium

PEPPER_VARIABLE = "COLLEGIUM_PEPPER"
OIDC_VARIABLE = "COLLEGIUM_OIDC_CLIENT_SECRET"
"""Holds the client secret at the identity provider."""
_NO_MODEL = "none:needed"


def pepper_of(settings: Settings, environ: Mapping[str, str] = os.environ) -> bytes:
    """The pepper: of the file that the settings name, of the environment, or of the data folder, where it is made.

    Raises ``UsageError``, ``StoreReadOnly``.
    """
    if settings.auth.pepper_file is not None:
        return read_pepper(settings.auth.pepper_file)
    if given := environ.get(PEPPER_VARIABLE, ""):
        return check_pepper(given.encode(), PEPPER_VARIABLE)
    return read_or_make_pepper(settings.data_dir / "pepper")


def keys_of(app: Collegium, settings: Settings) -> Keys:
    """The API keys in the stores of ``app``."""
    return Keys(app.stores.records, clock=SystemClock(), pepper=pepper_of(settings), entropy=os.urandom)


def doorkeeper(settings: Settings, opened: Opened, *, clock: Clock) -> Doorkeeper:
    """Who may come in, as ``settings`` say. Raises ``UsageError``, ``StoreReadOnly``."""
    auth, pepper = settings.auth, pepper_of(settings)
    oidc = _oidc(auth, clock)
    return Doorkeeper(
        opened,
        DoorPolicy(
            tenant=DEFAULT_TENANT,
            may_be_open=is_loopback(settings.server.host) and not _has_own_auth(auth),
            session_s=auth.session_s,
            public_url=auth.public_url,
        ),
        secrets=Secrets(pepper, os.urandom),
        clock=clock,
        oidc=oidc,
        login=None if oidc is None else _login(settings, oidc, clock, pepper),
    )


async def check_exposure(settings: Settings) -> None:
    """Raises ``UsageError`` where others than this machine's users would find a server that nobody has a key for.

    Stores that are away are no reason: on such an address nobody comes in without credentials in any case.
    """
    if not _needs_keys(settings):
        return
    try:
        async with open_collegium(settings, scope="none", model=_NO_MODEL) as app:
            await require_keys(settings, keys_of(app, settings))
    except StoreError:
        return


async def require_keys(settings: Settings, keys: Keys) -> None:
    """Raises ``UsageError`` where there has to be a key, and there is none."""
    if _needs_keys(settings) and not await keys.any():
        raise UsageError(
            f"{settings.server.host} is reached from other machines, and there are no keys: make one with `collegium "
            "keys create --role admin`, serve on 127.0.0.1, or answer /healthz, /readyz and /metrics alone with "
            "--health-only",
            host=settings.server.host,
        )


def _needs_keys(settings: Settings) -> bool:
    is_reached = not is_loopback(settings.server.host) and not settings.server.health_only
    return is_reached and not _has_own_auth(settings.auth)


def _has_own_auth(auth: AuthSection) -> bool:
    """Whether credentials are asked for even where there is no key."""
    return auth.required or auth.oidc.issuer is not None


def _oidc(auth: AuthSection, clock: Clock) -> Oidc | None:
    wanted = auth.oidc
    if wanted.issuer is None:
        return None
    policy = OidcPolicy(
        issuer=wanted.issuer,
        audience=wanted.audience or wanted.client_id or "",
        algorithms=tuple(wanted.algorithms),
        leeway_s=wanted.leeway_s,
        subject_claim=wanted.subject_claim,
        tenant_claim=wanted.tenant_claim,
        tenant=wanted.tenant,
        roles_claim=wanted.roles_claim,
        projects_claim=wanted.projects_claim,
        roles=wanted.roles,
        default_roles=wanted.default_roles,
    )
    return Oidc(policy, Provider(wanted.issuer, clock=clock), clock=clock)


def _login(settings: Settings, oidc: Oidc, clock: Clock, pepper: bytes) -> Login | None:
    wanted = settings.auth.oidc
    if wanted.client_id is None:
        return None
    if settings.auth.public_url is None and not is_loopback(settings.server.host):
        raise UsageError("logins at the identity provider need auth.public_url: where browsers come back to")
    secret = os.environ.get(OIDC_VARIABLE) or None
    if wanted.client_secret_file is not None:
        secret = _secret(wanted.client_secret_file)
    client = Client(wanted.client_id, secret, tuple(wanted.scopes))
    return Login(oidc, client, clock=clock, pepper=pepper, entropy=os.urandom)


def _secret(path: Path) -> str:
    try:
        return path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the client secret file {path} cannot be read", path=str(path)) from error
