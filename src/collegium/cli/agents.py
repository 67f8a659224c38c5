"""``collegium agents``: who there is, how they do, whether they take tasks, and whether a declaration holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from collegium.cli.deeds import note
from collegium.cli.lazy import Lazy, LazyGroup
from collegium.cli.options import command
from collegium.cli.session import Session, pass_session
from collegium.cli.text import count, one_line, visible

if TYPE_CHECKING:
    from collegium.agents.roster import Roster
    from collegium.cli.columns import Cell
    from collegium.cli.standings import Seen

agents = LazyGroup(
    "agents",
    help="Look at the team, let agents drain and resume, check declarations.",
    lazy={
        "ls": Lazy("collegium.cli.agents:ls", "List all agents: condition, health, load."),
        "show": Lazy("collegium.cli.agents:show", "Show an agent: how it stands, why, its instructions."),
        "drain": Lazy("collegium.cli.agents:drain", "Give an agent no new tasks."),
        "resume": Lazy("collegium.cli.agents:resume", "Give an agent tasks again."),
        "check": Lazy("collegium.cli.agents:check", "Check a file of agents."),
    },
)


@command("ls")
@pass_session
def ls(session: Session) -> int:
    """List all agents: the built-in team, those that the configuration adds or replaces, and retired ones.

    Health and load are those of the last ten minutes, over all workers that show themselves. A retired agent is no
    longer declared here; runs that began with it go on with it.
    """
    return session.execute(_ls(session))


@command("show")
@click.argument("name")
@pass_session
def show(session: Session, name: str) -> int:
    """Show the agent NAME: what it may, how it stands and why, its instructions."""
    return session.execute(_show(session, name))


@command("drain")
@click.argument("name")
@click.option("--reason", metavar="TEXT", default="", help="Why; `agents show` tells it.")
@pass_session
def drain(session: Session, name: str, reason: str) -> int:
    """Give the agent NAME no new tasks, in any process, from a second on; what it has it ends.

    Other agents that can do the same take over. Where there is none, tasks wait until it is resumed.
    """
    return session.execute(_drain(session, name, reason))


@command("resume")
@click.argument("name")
@pass_session
def resume(session: Session, name: str) -> int:
    """Give the agent NAME tasks again, whether it drains or is quarantined."""
    return session.execute(_resume(session, name))


async def _ls(session: Session) -> int:
    from collegium.cli.columns import print_columns
    from collegium.cli.standings import SHORT_CHARS, condition, document, health, load, look, style

    roster = team(session)
    async with session.open() as app:
        seen = await look(app, roster)
    if session.is_json:
        session.emit({"items": [{**_declared(roster, n), **document(s)} for n, s in seen.items()], "next": None})
        return 0
    known = {a.name: a for a in roster}
    rows: list[tuple[Cell, ...]] = []
    for name, one in seen.items():
        agent = known.get(name)
        version = roster.pins()[f"agent:{name}"] if agent else one.standing.version if one.standing else ""
        rows.append(
            (
                (name, "cyan"),
                (condition(one), style(one)),
                load(one.card),
                health(one.card),
                ", ".join(agent.capabilities if agent else ()),
                ((agent.model or "the run's") if agent else "", "dim"),
                (version[:SHORT_CHARS], "dim"),
                agent.description if agent else "no longer declared, kept for the runs that began with it",
            )
        )
    header = ("agent", "condition", "load", "health", "capabilities", "model", "version", "does")
    print_columns(session.out, header, rows, right=("load",), is_cut=True)
    return 0


async def _show(session: Session, name: str) -> int:
    from collegium.cli.standings import document, look

    roster = team(session)
    async with session.open() as app:
        seen = await look(app, roster)
    if name not in seen:
        roster.get(name)
    if session.is_json:
        session.emit({**_declared(roster, name), **document(seen[name])})
        return 0
    _print_standing(session, name, roster, seen[name])
    return 0


def _print_standing(session: Session, name: str, roster: Roster, seen: Seen) -> None:
    from collegium.cli.standings import condition, health, history, load

    agent = next((a for a in roster if a.name == name), None)
    rows = {"agent": name, "condition": condition(seen)}
    if seen.card is not None:
        rows["load"] = f"{load(seen.card)} over all workers"
        rows["health"] = health(seen.card) or "nothing ended in the last ten minutes"
    if agent is not None:
        fleet = "" if agent.max_concurrent_fleet is None else f", {agent.max_concurrent_fleet} over all processes"
        rows |= {
            "does": agent.description,
            "kind": agent.kind,
            "capabilities": ", ".join(agent.capabilities),
            "accepts": ", ".join(agent.accepts) or "documents of any kind",
            "tools": ", ".join(agent.tools) or "none",
            "model": agent.model or "the run's",
            "limits": f"{agent.max_steps} steps a task, {agent.max_concurrent} tasks at once in a process{fleet}",
            "version": f"{agent.version} ({roster.pins()[f'agent:{name}']})",
        }
    for key, value in rows.items():
        print(f"{key:<13} {one_line(value)}")
    if seen.standing is not None:
        print()
        for line in history(seen.standing, session.now()):
            print(line)
    if agent is not None:
        print(f"\n{visible(agent.prompt)}")


async def _drain(session: Session, name: str, reason: str) -> int:
    from collegium.cli.person import user

    roster = team(session)
    async with session.open() as app:
        standing = await app.placement.lifecycle.drain(name, reason=reason, principal=user(None))
        await note(app, "agents.drained", name, reason=reason)
        alone = [c for c in _capabilities(roster, name) if not app.placement.lifecycle.is_served(c)]
    if session.is_json:
        session.emit({"agent": name, "condition": standing.condition, "unserved": alone})
        return 0
    print(f"{name} takes no new tasks: `collegium agents resume {name}` gives it some again")
    if alone:
        session.tell(f"nobody else takes {', '.join(alone)}: such tasks wait")
    return 0


async def _resume(session: Session, name: str) -> int:
    from collegium.cli.person import user

    async with session.open() as app:
        before = {s.agent: s.condition for s in await app.placement.lifecycle.all()}.get(name, "active")
        standing = await app.placement.lifecycle.resume(name, principal=user(None))
        await note(app, "agents.resumed", name)
    if session.is_json:
        session.emit({"agent": name, "condition": standing.condition, "before": before})
    else:
        print(f"{name} was active" if before == "active" else f"{name} takes tasks again, it was {before}")
    return 0


def _capabilities(roster: Roster, name: str) -> tuple[str, ...]:
    """What the agent can do, as it is declared here."""
    return next((a.capabilities for a in roster if a.name == name), ())


@command("check")
@click.argument("file", type=click.Path(path_type=Path))
@pass_session
def check(session: Session, file: Path) -> int:
    """Check the agents declared in FILE: its form, the prompts and the tools it names."""
    from collegium.agents.roster import Roster
    from collegium.tools.builtin import builtin_tools
    from collegium.tools.toolbox import Toolbox
    from collegium.wiring import read_agents

    found = read_agents(file)
    toolbox = Toolbox(builtin_tools())
    for agent in found:
        toolbox.granted(t for t in agent.tools if t != "*")
    if session.is_json:
        roster = Roster(found)
        session.emit({"file": str(file), "agents": [_declared(roster, a.name) for a in found]})
    else:
        print(f"{file}: {count(len(found), 'agent')}, nothing wrong: {', '.join(a.name for a in found)}")
    return 0


def team(session: Session) -> Roster:
    """The built-in agents and the configured ones."""
    from collegium.agents.roster import Roster, builtin_agents
    from collegium.wiring import read_agents

    declared = [agent for file in session.settings.agents.files for agent in read_agents(file)]
    return Roster((*builtin_agents(), *declared))


def _declared(roster: Roster, name: str) -> dict[str, Any]:
    """The declaration; the name alone of an agent that is no longer declared."""
    agent = next((a for a in roster if a.name == name), None)
    if agent is None:
        return {"name": name, "digest": None}
    fields: dict[str, Any] = msgspec.structs.asdict(agent)
    return {**fields, "digest": roster.pins()[f"agent:{name}"]}
