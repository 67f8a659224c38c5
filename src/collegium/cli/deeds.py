"""``collegium audit ls``, the log's export, and how commands of the host enter the log."""

from __future__ import annotations

import asyncio
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from collegium.cli.options import command
from collegium.cli.session import Session, pass_session

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from collegium.app import Collegium
    from collegium.domain.deed import Deed

TENANT: Final = "default"
FOLLOW_S: Final = 1.0
ACTOR: Final = "local"
_WHEN = click.DateTime(formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S%z"])


async def note(
    app: Collegium,
    action: str,
    object: str = "",  # noqa: A002  the word that logs have for it
    *,
    tenant: str = TENANT,
    reason: str = "",
    actor: str | None = None,
    **details: Any,
) -> Deed:
    """Writes a line about a command of the host into the administrative log of ``tenant``, durably.

    Without ``actor`` it was the user of this machine who called the command.
    """
    from collegium.cli.person import user
    from collegium.domain.deed import LogNoted
    from collegium.runtime.admin_log import AdminLog

    line = LogNoted(
        actor=actor or user(None), action=action, object=object, rule="host", reason=reason, details=details
    )
    (deed,) = await AdminLog(app.stores.journal, now=app.now).note(tenant, line)
    return deed


@command("ls")
@click.option("--actor", metavar="ID", help="Of this principal: local, key:ID, user:NAME.")
@click.option("--action", metavar="NAME", help="As keys.created, or keys.* for all of them.")
@click.option("--since", metavar="TIME", type=_WHEN, help="Not before (UTC): 2026-11-22 or 2026-11-22T07:00:00.")
@click.option("--until", metavar="TIME", type=_WHEN, help="Before (UTC).")
@click.option("--tenant", metavar="T", default=TENANT, help="Whose log.")
@click.option("--installation", "is_installation", is_flag=True, help="The log of what belongs to no tenant.")
@click.option("--limit", metavar="N", type=click.IntRange(1, 10_000), default=50, help="At most so many; 50.")
@pass_session
def ls(session: Session, /, **options: Any) -> int:
    """List who did what, decided by which rule, the newest first."""
    return session.execute(_list(session, **options))


async def _list(
    session: Session,
    *,
    actor: str | None,
    action: str | None,
    since: datetime | None,
    until: datetime | None,
    tenant: str,
    is_installation: bool,
    limit: int,
) -> int:
    from collegium.domain.deed import INSTALLATION
    from collegium.runtime.admin_log import AdminLog, Wanted

    wanted = Wanted(actor=actor, action=action, since=_utc(since), until=_utc(until))
    found: list[Deed] = []
    async with session.open() as app:
        log, place = AdminLog(app.stores.journal, now=app.now), None
        while len(found) < limit:
            owner = INSTALLATION if is_installation else tenant
            page = await log.page(owner, wanted, before=place, limit=limit - len(found))
            found += page.deeds
            if (place := page.next) is None:
                break
    if session.is_json:
        session.emit({"items": found, "next": None if place is None else list(place)})
    elif not found:
        print("There is no such line in the log.")
    else:
        _print(session, found)
    return 0


def _print(session: Session, deeds: list[Deed]) -> None:
    from collegium.cli.columns import print_columns

    rows = [
        (
            f"{one.at:%Y-%m-%d %H:%M:%S}",
            one.actor or "nobody",
            (one.action, "red" if one.decision == "refused" else ""),
            f"{one.count:,}" if one.count > 1 else "",
            " ".join(part for part in (one.object, f"({one.reason})" if one.reason else "") if part),
        )
        for one in deeds
    ]
    print_columns(session.out, ("WHEN", "WHO", "WHAT", "TIMES", "OF"), rows, right=("TIMES",), is_cut=True)


async def export_log(session: Session, path: Path, *, is_following: bool) -> int:
    """Appends the log to ``path``, one JSON document a line, behind what is there; then what comes, until Ctrl-C.

    Each time it catches up, the newest signed checkpoint follows as a line of its own.
    """
    import msgspec

    from collegium.domain.deed import log_tenant
    from collegium.domain.errors import UsageError
    from collegium.runtime.kept import archive_of

    place, written = _place(path), 0
    try:
        async with session.open() as app:
            with path.open("ab") as file:
                while True:
                    before = written
                    async for deed in _behind(app, place):
                        file.write(msgspec.json.encode({"deed": deed}) + b"\n")
                        place, written = (deed.log, deed.seq), written + 1
                    if written > before:
                        archive = archive_of(app.stores)
                        await archive.checkpoint(at=session.now())
                        newest = (await archive.covered(log_tenant(TENANT))).newest
                        if newest is not None:
                            (whole,) = await archive.checkpoints(log_tenant(TENANT), newest.number - 1, 1)
                            file.write(msgspec.json.encode({"checkpoint": whole}) + b"\n")
                        file.flush()
                    if not is_following:
                        break
                    await asyncio.sleep(FOLLOW_S)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}; choose another PATH", path=str(path)) from error
    if session.is_json:
        session.emit({"path": str(path), "deeds": written, "tenant": TENANT})
    else:
        from collegium.cli.text import count

        print(f"{count(written, 'line')} of the log appended to {path}")
    return 0


async def _behind(app: Collegium, place: tuple[str, int]) -> AsyncIterator[Deed]:
    from collegium.runtime.admin_log import AdminLog

    async for deed in AdminLog(app.stores.journal, now=app.now).lines(TENANT, after=place):
        yield deed


def _place(path: Path) -> tuple[str, int]:
    """Where the file ends: the journal and number of its last line of the log. Raises ``UsageError``."""
    place = ("", 0)
    if path.exists():
        for deed in read_lines(path)[0]:
            place = (str(deed["log"]), int(deed["seq"]))
    return place


def read_lines(path: Path) -> tuple[list[dict[str, Any]], list[Any]]:
    """The lines of the log and the checkpoints in an exported log. Raises ``UsageError`` for any other file."""
    import msgspec

    from collegium.domain.errors import UsageError

    deeds, checkpoints = list[dict[str, Any]](), list[Any]()
    try:
        for number, line in enumerate(path.read_bytes().splitlines(), start=1):
            document = msgspec.json.decode(line, type=dict[str, Any])
            if set(document) == {"deed"}:
                deeds.append(document["deed"])
            elif set(document) == {"checkpoint"}:
                checkpoints.append(document["checkpoint"])
            else:
                raise UsageError(f"{path} is no exported log: line {number} is neither a deed nor a checkpoint")
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", path=str(path)) from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is no exported log ({error})", path=str(path)) from error
    return deeds, checkpoints


def _utc(at: datetime | None) -> datetime | None:
    from datetime import UTC

    return at if at is None or at.tzinfo is not None else at.replace(tzinfo=UTC)
