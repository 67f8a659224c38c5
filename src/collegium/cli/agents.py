"""``collegium agents``: who there is, and whether a declaration holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from collegium.cli.lazy import Lazy, LazyGroup
from collegium.cli.options import command
from collegium.cli.session import Session, pass_session
from collegium.cli.text import count, one_line, visible

if TYPE_CHECKING:
    from collegium.agents.roster import Roster

agents = LazyGroup(
    "agents",
    help="Look at the team, check declarations.",
    lazy={
        "ls": Lazy("collegium.cli.agents:ls", "List all agents."),
        "show": Lazy("collegium.cli.agents:show", "Show an agent with its instructions."),
        "check": Lazy("collegium.cli.agents:check", "Check a file of agents."),
    },
)


@command("ls")
@pass_session
def ls(session: Session) -> int:
    """List all agents: the built-in team, and those that the configuration adds or replaces."""
    roster = team(session)
    if session.is_json:
        session.emit({"items": [_document(roster, a.name) for a in roster], "next": None})
        return 0
    from collegium.cli.columns import print_columns

    rows = [
        ((a.name, "cyan"), ", ".join(a.capabilities), (a.model or "the run's", "dim"), a.description) for a in roster
    ]
    print_columns(session.out, ("agent", "capabilities", "model", "does"), rows)
    return 0


@command("show")
@click.argument("name")
@pass_session
def show(session: Session, name: str) -> int:
    """Show the agent NAME with its instructions."""
    roster = team(session)
    agent = roster.get(name)
    if session.is_json:
        session.emit(_document(roster, name))
        return 0
    rows = {
        "agent": agent.name,
        "does": agent.description,
        "kind": agent.kind,
        "capabilities": ", ".join(agent.capabilities),
        "tools": ", ".join(agent.tools) or "none",
        "model": agent.model or "the run's",
        "limits": f"{agent.max_steps} steps a task, {agent.max_concurrent} tasks at once",
        "version": f"{agent.version} ({roster.pins()[f'agent:{name}']})",
    }
    for key, value in rows.items():
        print(f"{key:<13} {one_line(value)}")
    print(f"\n{visible(agent.prompt)}")
    return 0


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
        session.emit({"file": str(file), "agents": [_document(roster, a.name) for a in found]})
    else:
        print(f"{file}: {count(len(found), 'agent')}, nothing wrong: {', '.join(a.name for a in found)}")
    return 0


def team(session: Session) -> Roster:
    """The built-in agents and the configured ones."""
    from collegium.agents.roster import Roster, builtin_agents
    from collegium.wiring import read_agents

    declared = [agent for file in session.settings.agents.files for agent in read_agents(file)]
    return Roster((*builtin_agents(), *declared))


def _document(roster: Roster, name: str) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.structs.asdict(roster.get(name))
    return {**fields, "digest": roster.pins()[f"agent:{name}"]}
