"""API keys: ``clg_<env>_<id>_<secret>``, and what is kept of one: not its secret, only what it is known by."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from datetime import datetime
from typing import Final, Literal, NamedTuple

import msgspec

from collegium.domain.errors import UsageError

PREFIX: Final = "clg_"
MAX_KEY_CHARS: Final = 200
MAX_NAME_CHARS: Final = 200
DEFAULT_ENV: Final = "live"
_ENV = re.compile(r"[a-z0-9]{1,16}\Z")
_KEY = re.compile(r"clg_([a-z0-9]{1,16})_([a-z2-7]{12})_([A-Za-z0-9]{32,128})\Z", re.ASCII)
_ID = re.compile(r"[a-z2-7]{12}\Z")


class ApiKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key as it is kept.

    Attributes:
        id: The part of the key that names it; no secret.
        env: Where it is meant to be used (``live``, ``test``); for people and scanners that find it somewhere.
        tenant: Whose data it opens.
        roles: As they were given; what they may do is looked up at each use.
        scopes: Rights beside those of the roles.
        projects: The projects that it is limited to; None for all of the tenant.
        digest: HMAC of the whole key.
        pepper: Tells which pepper the HMAC was made with.
        old_digest: The HMAC of the key before the last rotation, which holds until ``old_until``.
        last_used_at: At most a minute behind.
    """

    id: str
    env: str
    tenant: str
    name: str = ""
    roles: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    projects: tuple[str, ...] | None = None
    digest: str
    pepper: str
    created_at: datetime
    created_by: str
    expires_at: datetime | None = None
    last_used_at: datetime | None = None
    revoked_at: datetime | None = None
    rotated_at: datetime | None = None
    old_digest: str | None = None
    old_until: datetime | None = None

    def standing(self, now: datetime) -> Literal["holds", "expired", "revoked"]:
        """Whether it lets anybody in."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now else "holds"


class KeyText(NamedTuple):
    """A key as its holder shows it."""

    env: str
    id: str
    text: str


def parse(text: str) -> KeyText | None:
    """The parts of a key; None for what does not have the form of one."""
    found = _KEY.match(text) if len(text) <= MAX_KEY_CHARS else None
    return None if found is None else KeyText(found[1], found[2], text)


def is_key_id(text: str) -> bool:
    """Whether ``text`` has the form of the id of a key."""
    return _ID.match(text) is not None


def new_id(entropy: Callable[[int], bytes]) -> str:
    """A new id: 60 random bits."""
    return _base32(entropy(8))[:12]


def new_text(env: str, id_: str, entropy: Callable[[int], bytes]) -> str:
    """A new key with 256 random bits."""
    return f"{PREFIX}{env}_{id_}_{_base32(entropy(32))}"


def check_env(env: str) -> str:
    """``env``. Raises ``UsageError`` for what cannot stand in a key."""
    if _ENV.match(env) is None:
        raise UsageError(f"{env[:40]!r} cannot stand in a key: 1 to 16 small letters and digits, as live or test")
    return env


def _base32(data: bytes) -> str:
    return base64.b32encode(data).decode().rstrip("=").lower()
