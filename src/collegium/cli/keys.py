"""``collegium keys``: who may use the API."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import click

from collegium.cli.deeds import ACTOR, note
from collegium.cli.lazy import Lazy, LazyGroup
from collegium.cli.options import command
from collegium.cli.session import Session, pass_session

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import datetime

    from collegium.app import Collegium
    from collegium.domain.api_key import ApiKey
    from collegium.runtime.keys import Issued, Keys

keys = LazyGroup(
    "keys",
    help="""Keys of the API: make, list, rotate, revoke. They are made on the host, before or while it serves.

    The secret is shown once and stored nowhere. As soon as there is a key, `serve` asks for one on loopback too.""",
    lazy={
        "create": Lazy("collegium.cli.keys:create", "Make a key and print it, this once."),
        "ls": Lazy("collegium.cli.keys:ls", "List keys: what they may do, when they were used."),
        "rotate": Lazy("collegium.cli.keys:rotate", "Give a key a new secret."),
        "revoke": Lazy("collegium.cli.keys:revoke", "Let a key open nothing any more."),
    },
)
DEFAULT_GRACE_S = 86_400.0
_DAY_S = 86_400.0
_PAGE = 200
_STYLES = {"holds": "green", "expired": "yellow", "revoked": "red"}


@command("create")
@click.option("--role", "roles", multiple=True, metavar="ROLE", help="viewer, operator, approver, admin; repeatable.")
@click.option("--scope", "scopes", multiple=True, metavar="SCOPE", help="A right besides, as runs:read; repeatable.")
@click.option("--tenant", metavar="T", default="default", help="Whose data it opens.")
@click.option("--project", "projects", multiple=True, metavar="P", help="Runs of this project alone; repeatable.")
@click.option("--name", metavar="NAME", default="", help="What it is for.")
@click.option("--expires-days", metavar="D", type=click.FloatRange(min=0, min_open=True, max=36_500), help="How long.")
@click.option("--env", metavar="ENV", default="live", help="Stands in the key: live, test ...")
@pass_session
def create(session: Session, /, **options: Any) -> int:
    """Make a key and print it: it is shown this once, and nobody can find it out again.

    \b
      collegium keys create --role admin --name ada
      collegium keys create --scope runs:read --scope runs:write --tenant acme --expires-days 90
    """  # noqa: D301  \b keeps click from wrapping what follows
    return session.execute(_create(session, **options))


@command("ls")
@click.option("--tenant", metavar="T", help="Of this tenant alone.")
@pass_session
def ls(session: Session, tenant: str | None) -> int:
    """List the keys of all tenants by id, also those that hold no longer."""
    return session.execute(_list(session, tenant))


@command("rotate")
@click.argument("key")
@click.option(
    "--grace-s",
    metavar="S",
    type=click.FloatRange(min=0),
    default=DEFAULT_GRACE_S,
    help="The old one holds for; 86400.",
)
@pass_session
def rotate(session: Session, key: str, grace_s: float) -> int:
    """Give KEY (its id) a new secret and print it. The old one holds a while longer, so that nothing stands still."""
    return session.execute(_rotate(session, key, grace_s))


@command("revoke")
@click.argument("key")
@pass_session
def revoke(session: Session, key: str) -> int:
    """Let KEY (its id) open nothing any more, within a second and for good."""
    return session.execute(_revoke(session, key))


async def _create(session: Session, *, expires_days: float | None, projects: tuple[str, ...], **options: Any) -> int:
    from datetime import timedelta

    expires_at = None if expires_days is None else session.now() + timedelta(days=expires_days)
    async with _keys(session) as (app, found):
        issued = await found.create(expires_at=expires_at, projects=projects or None, created_by=ACTOR, **options)
        await _note(app, "created", issued.key)
    return _show(session, issued)


async def _rotate(session: Session, key: str, grace_s: float) -> int:
    async with _keys(session) as (app, found):
        issued = await found.rotate(_id(key), tenant=None, grace_s=grace_s)
        await _note(app, "rotated", issued.key)
    return _show(session, issued)


async def _revoke(session: Session, key: str) -> int:
    async with _keys(session) as (app, found):
        revoked = await found.revoke(_id(key), tenant=None)
        await _note(app, "revoked", revoked)
    if session.is_json:
        session.emit(_document(revoked, session.now()))
    else:
        print(f"{revoked.id} opens nothing any more")
    return 0


async def _list(session: Session, tenant: str | None) -> int:
    every: list[ApiKey] = []
    async with _keys(session) as (_, found):
        while page := await found.page(tenant, after=every[-1].id if every else "", limit=_PAGE):
            every += page
    now = session.now()
    if session.is_json:
        session.emit({"items": [_document(key, now) for key in every], "next": None})
        return 0
    if not every:
        print("There is no key: `collegium keys create --role admin` makes one.")
        return 0
    from collegium.cli.columns import print_columns
    from collegium.cli.text import ago, one_line

    rows = [
        (
            key.id,
            (key.standing(now), _STYLES[key.standing(now)]),
            key.tenant if key.projects is None else f"{key.tenant}/{','.join(key.projects)}",
            ", ".join((*key.roles, *key.scopes)),
            "never" if key.last_used_at is None else ago(key.last_used_at, now),
            "" if key.expires_at is None else f"{key.expires_at:%Y-%m-%d %H:%M}",
            one_line(key.name),
        )
        for key in every
    ]
    print_columns(session.out, ("key", "is", "tenant", "may", "used", "expires", "name"), rows)
    return 0


def _show(session: Session, issued: Issued) -> int:
    if session.is_json:
        session.emit({"key": issued.text, **_document(issued.key, session.now())})
        return 0
    print(issued.text)
    key = issued.key
    session.tell(f"{', '.join((*key.roles, *key.scopes))} of {key.tenant}; it is shown this once: keep it well")
    return 0


def _document(key: ApiKey, now: datetime) -> dict[str, Any]:
    names = (
        "env", "tenant", "name", "roles", "scopes", "projects", "created_at", "created_by", "expires_at",
        "last_used_at", "rotated_at", "old_until", "revoked_at",
    )  # fmt: skip
    return {"key_id": key.id, "status": key.standing(now), **{name: getattr(key, name) for name in names}}


async def _note(app: Collegium, done: str, key: ApiKey) -> None:
    await note(
        app, f"keys.{done}", key.id, tenant=key.tenant, name=key.name, roles=list(key.roles), scopes=list(key.scopes)
    )


def _id(text: str) -> str:
    """The id in what was given: itself, or a whole key, which people paste."""
    from collegium.domain.api_key import parse

    whole = parse(text)
    return text if whole is None else whole.id


@asynccontextmanager
async def _keys(session: Session) -> AsyncIterator[tuple[Collegium, Keys]]:
    from collegium.domain.errors import NotFound, UnknownName
    from collegium.wiring.auth import keys_of

    async with session.open() as app:
        try:
            yield app, keys_of(app, session.settings)
        except NotFound as error:
            raise UnknownName(f"{error.message}: `collegium keys ls` lists them", **error.fields) from error
