"""``[auth]``: who may use the API."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, get_args
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Algorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "Ed25519", "EdDSA"
]  # fmt: skip
ALGORITHMS: tuple[str, ...] = get_args(Algorithm)
"""Of signatures that can be checked without being able to make them: HS256 and the like are not among them."""
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class OidcSection(_Section):
    """``[auth.oidc]``: the identity provider whose tokens are taken, and by which people log in."""

    issuer: str | None = Field(default=None, description="URL of the identity provider, as its tokens name it.")
    audience: str | None = Field(default=None, description="What tokens have to be made for; by default `client_id`.")
    algorithms: list[Algorithm] = Field(
        default=["RS256", "PS256", "ES256", "Ed25519"], min_length=1,
        description="Signatures that are taken, asymmetric ones alone.",
    )  # fmt: skip
    leeway_s: float = Field(default=30.0, ge=0, le=300, description="So far the provider's clock may be off.")
    subject_claim: str = Field(default="sub", min_length=1, description="Claim with the user's name for good.")
    tenant_claim: str | None = Field(
        default=None, description="Claim with the user's tenant; without one all users are of `tenant`."
    )
    tenant: str | None = Field(
        default=None, min_length=1, description="Tenant of users whose token has none; without one they are refused."
    )
    projects_claim: str | None = Field(
        default=None, description="Claim with the projects that users are limited to; unset: all of their tenant."
    )
    roles_claim: str = Field(default="roles", min_length=1, description="Claim with the user's groups or roles.")
    roles: dict[str, Annotated[list[str], Field(max_length=100)]] = Field(
        default={}, description='Our roles and scopes by theirs: `{ops = ["operator", "approvals:decide"]}`.'
    )
    default_roles: list[str] = Field(default=[], description="Roles and scopes that every user has.")
    client_id: str | None = Field(default=None, description="Of the console at the provider; without it no login.")
    client_secret_file: Path | None = Field(
        default=None, description="File with its secret; else COLLEGIUM_OIDC_CLIENT_SECRET, else none (PKCE alone)."
    )
    scopes: list[str] = Field(default=["openid", "profile"], description="What the console asks the provider for.")

    @field_validator("issuer")
    @classmethod
    def _is_safe(cls, issuer: str | None) -> str | None:
        if issuer is not None and not _is_safe(issuer):
            raise ValueError("has to be an https:// URL without query; http:// for this machine alone")
        return issuer

    @model_validator(mode="after")
    def _is_whole(self) -> OidcSection:
        if self.issuer is None and (self.audience or self.client_id):
            raise ValueError("needs an issuer beside audience and client_id")
        if self.issuer is not None and not (self.audience or self.client_id):
            raise ValueError("needs an audience (or a client_id): tokens made for others must not be taken")
        if self.issuer is not None and not (self.tenant or self.tenant_claim):
            raise ValueError("needs tenant_claim or tenant: whose data users see")
        return self


class AuthSection(_Section):
    """``[auth]``: keys, sessions and the identity provider."""

    required: bool = Field(
        default=False,
        description="Ask for credentials on loopback too while there is no key yet, and allow any other address.",
    )
    pepper_file: Path | None = Field(
        default=None,
        description="File with the secret that keys are kept with, at least 32 bytes, the same for all processes; else "
        "COLLEGIUM_PEPPER, else `pepper` in the data folder, which is made.",
    )
    session_s: float = Field(default=28_800.0, ge=60, le=2_592_000, description="A login of the console lasts so long.")
    public_url: str | None = Field(
        default=None, description="URL that browsers use, where a proxy stands before `serve`: https://HOST."
    )
    oidc: OidcSection = OidcSection()

    @field_validator("public_url")
    @classmethod
    def _is_origin(cls, url: str | None) -> str | None:
        if url is not None and (not _is_safe(url) or urlsplit(url).path not in ("", "/")):
            raise ValueError("has to be https://HOST without a path; http:// for this machine alone")
        return None if url is None else url.rstrip("/")


def _is_safe(url: str) -> bool:
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return False
    has_more = bool(parts.query or parts.fragment or parts.username or parts.password)
    return bool(host) and not has_more and (parts.scheme == "https" or (parts.scheme == "http" and host in _LOOPBACK))
