"""``collegium runs check``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from collegium.cli.damage import told
from collegium.cli.options import command
from collegium.cli.session import Session, pass_session

if TYPE_CHECKING:
    from collegium.runtime.audit import Damage
    from collegium.runtime.check import LiveRun


@command("check")
@click.option("--agents", metavar="FILE", type=click.Path(path_type=Path), help="Agents beside the built-in ones.")
@click.option("--live", "is_live_only", is_flag=True, help="Only look at runs under way, not at every journal.")
@pass_session
def check(session: Session, agents: Path | None, *, is_live_only: bool) -> int:
    """Say which runs under way the present agents and tools would break, and whether journals are as they were written.

    Runs go on with the agents they began with, which are kept; a tool of another version stops the tasks that need it.
    Exits with 1 where a run cannot go on or a journal was changed.
    """
    return session.execute(_check(session, agents, is_live_only=is_live_only))


async def _check(session: Session, agents: Path | None, *, is_live_only: bool) -> int:
    from collegium.cli.wanted import with_agents
    from collegium.runtime.audit import Verified, verify_all
    from collegium.runtime.check import check_live

    verified = Verified(runs=0, newest=None, open_runs=0)
    async with session.open(settings=with_agents(session.settings, agents)) as app:
        live, found = await check_live(app.stores.journal, app.scheduler, app.pins, tenant="default")
        if not is_live_only and app.stores.archive is not None:
            verified = await verify_all(app.stores.journal, app.stores.archive, "default")
    looked, damaged = verified.runs, verified.damaged
    is_fine = not damaged and all(one.breaks is None for one in found)
    if session.is_json:
        import msgspec

        document = {"ok": is_fine, "live": live, "runs": found, "verified": looked, "damaged": damaged}
        session.emit(msgspec.to_builtins(document))
    else:
        _print(live, found, looked, damaged)
    return 0 if is_fine else 1


def _print(live: int, found: tuple[LiveRun, ...], looked: int, damaged: tuple[Damage, ...]) -> None:
    from collegium.cli.text import count, short_id

    for one in found:
        print(f"{short_id(one.run)}  {one.status}: {'cannot go on here' if one.breaks else 'goes on as it began'}")
        if one.breaks:
            print(f"  {one.breaks}")
        for d in one.differences:
            now = "gone" if d.present is None else f"now {d.present}"
            print(f"  {d.what}: began with {d.pinned}, {now}" + (", kept for this run" if d.outcome == "kept" else ""))
    broken = sum(one.breaks is not None for one in found)
    print(f"{count(live, 'run')} under way, {broken} cannot go on here")
    for bad in damaged:
        print(told(bad))
    if looked:
        print(f"{count(looked, 'journal')} verified, {len(damaged)} changed")
