"""``collegium runs check``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

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

    if session.server is not None:
        return await _over_server(session, agents, is_live_only=is_live_only)
    verified = Verified(runs=0, newest=None, open_runs=0)
    async with session.open(settings=with_agents(session.settings, agents)) as app:
        live, found = await check_live(app.stores.journal, app.scheduler, app.pins, tenant="default")
        if not is_live_only and app.stores.archive is not None:
            verified = await verify_all(app.stores.journal, app.stores.archive, "default")
    return _tell(session, live, found, verified.runs, verified.damaged)


async def _over_server(session: Session, agents: Path | None, *, is_live_only: bool) -> int:
    """The same over a server: one small request for each run."""
    from collegium.cli.remote import client
    from collegium.domain.errors import UsageError
    from collegium.domain.head import LIVE
    from collegium.runtime.audit import Damage
    from collegium.runtime.check import LiveRun
    from collegium.runtime.pins import Difference

    if agents is not None:
        raise UsageError("--agents goes without --server: the server has its own agents", option="--agents")
    live, looked, after = 0, 0, None
    found: list[LiveRun] = []
    damaged: list[Damage] = []
    async with client(session) as server:
        while True:
            page = await server.runs(statuses=sorted(LIVE) if is_live_only else (), limit=200, after=after)
            for one in page.items:
                checked = await server.check(one.run_id)
                looked, live = looked + 1, live + (checked.status in LIVE)
                if checked.changed_at is not None:
                    damaged.append(Damage(run=one.run_id, seq=checked.changed_at))
                if checked.breaks is not None or checked.differences:
                    differences = tuple(Difference(**msgspec.structs.asdict(d)) for d in checked.differences)
                    found.append(
                        LiveRun(run=one.run_id, status=checked.status, differences=differences, breaks=checked.breaks)
                    )
            after = page.next
            if after is None:
                break
    return _tell(session, live, tuple(found), looked, tuple(damaged))


def _tell(session: Session, live: int, found: tuple[LiveRun, ...], looked: int, damaged: tuple[Damage, ...]) -> int:
    is_fine = not damaged and all(one.breaks is None for one in found)
    if session.is_json:
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
