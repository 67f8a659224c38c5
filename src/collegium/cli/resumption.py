"""Going on with a run that was stopped, by its id or with an answer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collegium.cli.session import Session


async def resumed(
    session: Session, text: str, agents: Path | None, answer: tuple[str, str, str | None] | None = None
) -> int:
    """Works on a run that was stopped until it ends or waits for a person; see ``resume``."""
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
    async with session.open("own", settings=settings, on_indexing=display.indexed, on_pull=display.pulled) as app:
        run = await find_run(app, text)
        with display:
            session.run = run
            if answer is not None:
                word, reason, name = answer
                await app.inbox.settle(run, word, principal=user(name), tenant="default", reason=reason)
            handle = await app.resume(run)
            await bring_up(app, run, view)
            report = await follow(handle, display)
    if session.err.is_terminal and not session.is_json:
        session.err.print()
    return hand_out(session, report)
