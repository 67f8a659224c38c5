"""``collegium runs fork``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, cast

import click

from collegium.cli.options import command
from collegium.cli.session import Session, pass_session

_FILE = click.Path(path_type=Path)
_AT = "The last event that the fork shares; `runs events` lists them."
_EFFECTS = "ask (the default) or allow: whether writes that RUN made later need an approval in the fork."


@command("fork")
@click.argument("run")
@click.option("--at", metavar="SEQ", type=int, required=True, help=_AT)
@click.option("--model", metavar="NAME", help="Ask this model instead.")
@click.option(
    "--plan", metavar="FILE", type=_FILE, help="Follow this plan instead (JSON); tasks with results keep them."
)
@click.option("--agents", metavar="FILE", type=_FILE, help="Agents beside the built-in ones.")
@click.option("--effects", type=click.Choice(("ask", "allow")), default="ask", help=_EFFECTS)
@click.option("--as-user", metavar="NAME", help="Who asks; the user of this machine by default.")
@pass_session
def fork(
    session: Session,
    run: str,
    *,
    at: int,
    model: str | None,
    plan: Path | None,
    agents: Path | None,
    effects: str,
    as_user: str | None,
) -> int:
    """Go on from event SEQ of RUN as a new run, with the present agents and tools; RUN stays as it is.

    What RUN had done up to there is not done again. A task that was under way goes on with its conversation.
    """
    wanted = cast("Literal['ask', 'allow']", effects)
    return session.execute(_fork(session, run, at, model, plan, agents, wanted, as_user))


async def _fork(
    session: Session,
    text: str,
    at: int,
    model: str | None,
    plan: Path | None,
    agents: Path | None,
    effects: Literal["ask", "allow"],
    as_user: str | None,
) -> int:
    from collegium.cli.approvals import read_plan
    from collegium.cli.display import display_for
    from collegium.cli.find import find_run
    from collegium.cli.follow import follow
    from collegium.cli.outcome import hand_out
    from collegium.cli.past import bring_up
    from collegium.cli.person import user
    from collegium.cli.view import RunView
    from collegium.cli.wanted import with_agents

    view = RunView(session.now)
    display = display_for(session.err, view)
    settings = with_agents(session.settings, agents)
    given = None if plan is None else read_plan(plan)
    async with session.open("own", settings=settings, on_indexing=display.indexed, on_pull=display.pulled) as app:
        parent = await find_run(app, text)
        handle = await app.fork(parent, at=at, model=model, plan=given, effects=effects, principal=user(as_user))
        await bring_up(app, handle.id, view)
        with display:
            session.run = handle.id
            report = await follow(handle, display)
    if session.err.is_terminal and not session.is_json:
        session.err.print()
    return hand_out(session, report, {"forked_from": {"run_id": parent, "seq": at}})
