"""``collegium migrate``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from collegium.cli.options import command
from collegium.cli.session import Session, pass_session
from collegium.domain.errors import UsageError

if TYPE_CHECKING:
    from collegium.wiring.migrate import Migrated


@command("migrate")
@click.option("--dry-run", "is_dry", is_flag=True, help="Only say what would be done.")
@click.option("--roles", "is_roles", is_flag=True, help="Print SQL for roles without more rights than they need.")
@click.option("--from", "source", metavar="URL", help="Move everything that is kept here ...")
@click.option("--to", "target", metavar="URL", help="... into this empty store. Interrupted, the same again goes on.")
@pass_session
def migrate(session: Session, *, is_dry: bool, is_roles: bool, source: str | None, target: str | None) -> int:
    """Bring the tables of the store up to date with this version; twice is harmless.

    Processes of the version before go on with what was added. Needs the role that owns the tables:

    \b
      COLLEGIUM_STORE=postgresql://owner:...@host/db collegium migrate --dry-run
      collegium migrate --roles | psql postgresql://owner:...@host/db

    With --from and --to a store is moved: runs, knowledge, schedules and audit, byte by byte, and all of it is verified
    after. The source is only read, and nobody may work on it meanwhile:

    \b
      collegium migrate --from sqlite:///data/collegium.db --to postgresql://owner:...@host/db
    """  # noqa: D301  \b keeps click from wrapping what follows
    if (source is None) != (target is None):
        raise UsageError("--from and --to go together: where from, and where to")
    if source is not None and target is not None:
        from collegium.cli.move import move

        return session.execute(move(session, source, target, is_dry=is_dry))
    if is_roles:
        from collegium.wiring.migrate import roles_script

        print(roles_script(), end="")
        return 0
    return session.execute(_migrate(session, is_dry=is_dry))


async def _migrate(session: Session, *, is_dry: bool) -> int:
    from collegium.wiring.migrate import migrate as bring_up_to_date

    done = await bring_up_to_date(session.settings, is_dry=is_dry)
    if session.is_json:
        session.emit({"dry_run": is_dry, "stores": [one._asdict() for one in done]})
        return 0
    for one in done:
        for line in _lines(one, is_dry=is_dry):
            print(line)
    return 0


def _lines(one: Migrated, *, is_dry: bool) -> list[str]:
    if not one.steps and not one.is_moved:
        if one.found > one.now:
            return [f"{one.place}: version {one.found}, newer than this collegium's {one.now}, which works on it too"]
        return [f"{one.place}: up to date, version {one.found}"]
    verb = "would apply" if is_dry else "applied"
    begun = f"from version {one.found}" if one.found else "a new store"
    lines = [f"{one.place}: {begun}, this collegium works on version {one.now}"]
    lines += [f"  {verb} {step}" for step in one.steps]
    if one.is_moved:
        lines.append(
            f"  {'would move' if is_dry else 'moved'} its count of places: it was restored into another server"
        )
    return lines
