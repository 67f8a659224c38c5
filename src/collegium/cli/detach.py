"""``run --detach``: the goal is submitted; the workers of the store work on it, or a process of its own."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from collegium.cli.text import short_id

if TYPE_CHECKING:
    from collegium.app import Collegium
    from collegium.cli.session import Session
    from collegium.cli.wanted import Wanted


def run_detached(session: Session, wanted: Wanted) -> int:
    """Submits, starts the process and prints the run's id. The run is stored before the process starts."""
    code = session.execute(_submit(session, wanted))
    if session.run is None or session.is_left_to_workers:
        return code
    log = _start(session, session.run, wanted)
    short = short_id(session.run)
    if session.is_json:
        session.emit({"run_id": session.run, "status": "queued", "log": str(log)})
    else:
        print(session.run)
        session.tell(f"works in the background; `collegium runs events {short} --follow` shows how, {log} its messages")
    return 0


def _leave(session: Session, run: str, workers: int) -> None:
    """Says that workers of the store do it."""
    session.is_left_to_workers = True
    if session.is_json:
        session.emit({"run_id": run, "status": "queued", "log": None, "workers": workers})
    else:
        print(run)
        who = "the worker of this store works" if workers == 1 else f"the {workers} workers of this store work"
        session.tell(f"{who} on it; `collegium runs events {short_id(run)} --follow` shows how")


async def _submit(session: Session, wanted: Wanted) -> int:
    from collegium.cli.display import display_for
    from collegium.cli.view import RunView
    from collegium.cli.wanted import submit, with_agents
    from collegium.wiring import default_model

    display = display_for(session.err, RunView(session.now))
    settings = with_agents(session.settings, wanted.agents)
    model = wanted.model or await default_model(settings)
    async with session.open("none", model=model, settings=settings, on_pull=display.pulled) as app:
        with display:
            # What is wrong with the model is said here, not in a log that nobody reads.
            await app.models.open(model)
            handle = await submit(app, wanted, display)
        workers = await _workers(app) if wanted.agents is None else 0
    if workers:
        _leave(session, handle.id, workers)
    session.run = handle.id
    return 0


async def _workers(app: Collegium) -> int:
    """How many workers there are that do whatever the team can do; 0 where something would be left undone.

    Agents of a file are known to one command alone: workers have those of their own settings.
    """
    # A card counts for seconds after its worker was killed, and nobody should wait for that one.
    dead = set(await app.stores.presence.dead())
    ready = [card for card in await app.fleet.workers() if card.state == "ready" and card.worker not in dead]
    taken = {capability for card in ready for capability in card.capabilities}
    return len(ready) if taken.issuperset(app.roster.capabilities) else 0


def _start(session: Session, run: str, wanted: Wanted) -> Path:
    """Starts ``collegium runs resume`` in a session of its own: it outlives this terminal."""
    options = _options(session, wanted)
    log = session.settings.data_dir / "logs" / f"{run}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        os.posix_spawn(
            sys.executable,
            [sys.executable, "-m", "collegium.cli", "runs", "resume", run, *options],
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, output, 1),
                (os.POSIX_SPAWN_DUP2, output, 2),
            ],
            setsid=True,
        )
    finally:
        os.close(output)
    return log


def _options(session: Session, wanted: Wanted) -> list[str]:
    """The options that make the other process see the same settings."""
    options = ["--data-dir", str(session.settings.data_dir), "--store", session.settings.store]
    if session.settings.config_file is not None:
        options += ["--config", str(session.settings.config_file)]
    if wanted.agents is not None:
        options += ["--agents", str(wanted.agents.absolute())]
    return options
