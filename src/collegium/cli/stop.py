"""``collegium stop`` and ``collegium start``: kill switches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from collegium.cli.deeds import note
from collegium.cli.options import command
from collegium.cli.session import Session, pass_session
from collegium.cli.text import ago, count, short_id
from collegium.domain.errors import UsageError

if TYPE_CHECKING:
    from collegium.app import Collegium
    from collegium.runtime.stops import Kind

KINDS = ("tenant", "run", "agent", "tool")


@command("stop")
@click.argument("kind", required=False, type=click.Choice(KINDS), metavar="[tenant|run|agent|tool]")
@click.argument("name", required=False, metavar="[NAME]")
@click.option("--reason", metavar="TEXT", default="", help="Why; whoever meets it is told.")
@pass_session
def stop(session: Session, /, kind: Kind | None, name: str | None, reason: str) -> int:
    """Stop a tenant, a run, an agent or a tool until it is started again; without a name, list what is stopped.

    Every process ends what it does of it within two seconds. Tasks are parked and lose nothing; a tool is refused.

    \b
      collegium stop tool send_mail --reason "wrong recipients"
      collegium stop run last
      collegium stop
    """  # noqa: D301  \b keeps click from wrapping what follows
    if kind is None:
        return session.execute(_list(session))
    return session.execute(_stop(session, kind, _named(kind, name), reason))


@command("start")
@click.argument("kind", type=click.Choice(KINDS), metavar="tenant|run|agent|tool")
@click.argument("name", metavar="NAME")
@pass_session
def start(session: Session, /, kind: Kind, name: str) -> int:
    """Let go on what was stopped: parked tasks are taken up by whichever worker comes first."""
    return session.execute(_start(session, kind, name))


async def _stop(session: Session, kind: Kind, name: str, reason: str) -> int:
    async with session.open() as app:
        switch = await app.breaker.stop(kind, await _known(app, kind, name), reason=reason)
        await note(app, "stops.put", f"{kind}:{switch.name}", reason=reason)
    if session.is_json:
        session.emit(switch)
    else:
        shown = short_id(switch.name) if kind == "run" else switch.name
        print(f"{kind} {shown} is stopped: `collegium start {kind} {shown}` lets it go on")
    return 0


async def _start(session: Session, kind: Kind, name: str) -> int:
    async with session.open() as app:
        known = await _known(app, kind, name)
        was_stopped, runs = await app.breaker.start(kind, known)
        await note(app, "stops.removed", f"{kind}:{known}")
    if session.is_json:
        session.emit({"kind": kind, "name": known, "was_stopped": was_stopped, "runs": runs})
        return 0
    if not was_stopped and not runs:
        print(f"{kind} {name} was not stopped")
        return 0
    print(f"{kind} {name} goes on" + (f", {count(len(runs), 'run')} with it" if runs else ""))
    if runs:
        session.tell("where no worker runs: collegium runs resume RUN")
    return 0


async def _list(session: Session) -> int:
    async with session.open() as app:
        switches = await app.breaker.switches()
    if session.is_json:
        session.emit({"items": switches})
        return 0
    if not switches:
        print("Nothing is stopped.")
        return 0
    from collegium.cli.columns import Cell, print_columns

    rows: list[tuple[Cell, ...]] = [
        ((s.kind, "cyan"), short_id(s.name) if s.kind == "run" else s.name, ago(s.at, session.now()), s.reason)
        for s in switches
    ]
    print_columns(session.out, ("kind", "name", "stopped", "reason"), rows, is_cut=True)
    return 0


def _named(kind: str, name: str | None) -> str:
    if name is None:
        raise UsageError(f"which {kind}? write `collegium stop {kind} NAME`", kind=kind)
    return name


async def _known(app: Collegium, kind: str, name: str) -> str:
    """The whole name. Raises for a run or an agent that does not exist; tools and tenants may come later."""
    if kind == "run":
        from collegium.cli.find import find_run

        return await find_run(app, name)
    if kind == "agent":
        app.roster.get(name)
    return name
