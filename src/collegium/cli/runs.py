"""``collegium runs``: what was run, how it went, and how it goes on."""

from __future__ import annotations

from pathlib import Path

import click

from collegium.cli.deeds import note
from collegium.cli.lazy import Lazy, LazyGroup
from collegium.cli.options import command
from collegium.cli.session import Session, pass_session

runs = LazyGroup(
    "runs",
    help="""Look at runs, cancel them, resume them.

    RUN is an id, any unique part of one (at least 4 characters), or "last".""",
    lazy={
        "ls": Lazy("collegium.cli.runs:ls", "List runs, newest first."),
        "show": Lazy("collegium.cli.runs:show", "Show a run's plan, answer and sources."),
        "events": Lazy("collegium.cli.runs:events", "Show a run's journal."),
        "files": Lazy("collegium.cli.runs:files", "List a run's inputs and the files it wrote."),
        "cancel": Lazy("collegium.cli.runs:cancel", "End a run; what there is is kept."),
        "resume": Lazy("collegium.cli.runs:resume", "Go on with a run that was stopped."),
        "say": Lazy("collegium.cli.runs:say", "Add something to what a run is to do."),
        "fork": Lazy("collegium.cli.fork:fork", "Go on from any event of a run, as a new one."),
        "replay": Lazy("collegium.cli.replay:replay", "Run a recorded run again and compare."),
        "export": Lazy("collegium.cli.export:export", "Write a run with all it needs into one file."),
        "prune": Lazy("collegium.cli.prune:prune", "Remove finished runs, oldest first."),
        "check": Lazy("collegium.cli.check:check", "Say which runs a new version would break."),
    },
)
_AS = "What became of calls with unknown outcome: done, not-done or retry."
_STATUS = "Only succeeded, failed, waiting ... runs; repeat for more."
STATUSES = ("queued", "running", "waiting", "cancelling", "succeeded", "partial", "failed", "cancelled", "limited")


@command("ls")
@click.option("--status", "statuses", metavar="STATUS", multiple=True, type=click.Choice(STATUSES), help=_STATUS)
@click.option("--limit", metavar="N", type=click.IntRange(1, 1_000), default=20, help="How many; 20.")
@click.option("--after", metavar="RUN", help="Go on behind this run.")
@click.option("--project", metavar="P", help="Of this project alone.")
@pass_session
def ls(session: Session, statuses: tuple[str, ...], limit: int, after: str | None, project: str | None) -> int:
    """List runs, newest first."""
    if session.server is not None:
        from collegium.cli import remote

        return session.execute(remote.list_runs(session, statuses=statuses, project=project, limit=limit, after=after))
    from collegium.cli.listing import list_runs

    return session.execute(list_runs(session, statuses=statuses, project=project, limit=limit, after=after))


@command("show")
@click.argument("run")
@pass_session
def show(session: Session, run: str) -> int:
    """Show RUN as at its end: plan, answer, sources, verification. A run that goes on is shown as it stands."""
    if session.server is not None:
        from collegium.cli import remote

        return session.execute(remote.show(session, run))
    return session.execute(_show(session, run))


async def _show(session: Session, text: str) -> int:
    from collegium.cli.find import find_run
    from collegium.cli.outcome import hand_out
    from collegium.cli.past import bring_up, tombstone_document, tombstone_of
    from collegium.cli.tree import draw, glyphs_for
    from collegium.cli.view import RunView
    from collegium.cli.waiting import lines, waiting_for
    from collegium.cli.why import why
    from collegium.domain.report import report

    async with session.open() as app:
        view = RunView(session.now)
        run = await find_run(app, text, may_be_pruned=True)
        if (tombstone := await tombstone_of(app, run)) is not None:
            session.emit(tombstone_document(tombstone)) if session.is_json else print(tombstone)
            return 0
        await bring_up(app, run, view)
        async for event in app.events(run):
            view.take(event)
        state = await app.state(run)
        waiting = await waiting_for(app, state, session.now())
    if not session.is_json:
        console = session.out
        glyphs = glyphs_for(console.encoding)
        console.print(draw(view, width=console.width, height=10_000, glyphs=glyphs, is_final=True))
        for line in lines(waiting):
            console.print(line, style="yellow", soft_wrap=True)
        for number, line in enumerate(why(state)):
            console.print(line if number else f"\n{line}", style="dim", soft_wrap=True)
        console.print()
    extra = {"principal": state.goal.principal, **({"waiting": waiting} if waiting else {})}
    hand_out(session, report(state, session.now()), extra)
    return 0


@command("events")
@click.argument("run")
@click.option("--after", metavar="SEQ", type=click.IntRange(min=0), default=0, help="Only events behind this number.")
@click.option("--follow", "is_following", is_flag=True, help="Go on until the run has ended.")
@pass_session
def events(session: Session, run: str, after: int, *, is_following: bool) -> int:
    """Show the journal of RUN: everything that happened, in order."""
    if session.server is not None:
        from collegium.cli import remote

        return session.execute(remote.events(session, run, after=after, is_following=is_following))
    from collegium.cli.journal import show_events

    return session.execute(show_events(session, run, after=after, is_following=is_following))


@command("files")
@click.argument("run")
@click.option("--out", metavar="DIR", type=click.Path(path_type=Path), help="Copy the files that the run wrote here.")
@pass_session
def files(session: Session, run: str, out: Path | None) -> int:
    """List the inputs of RUN and the files it wrote."""
    from collegium.cli.listing import list_files

    return session.execute(list_files(session, run, out))


@command("cancel")
@click.argument("run")
@click.option("--reason", metavar="TEXT", default="", help="For the journal.")
@pass_session
def cancel(session: Session, run: str, reason: str) -> int:
    """End RUN: nothing new is started, calls under way are ended, what there is is kept."""
    if session.server is not None:
        from collegium.cli import remote

        return session.execute(remote.cancel(session, run, reason))
    return session.execute(_cancel(session, run, reason))


async def _cancel(session: Session, text: str, reason: str) -> int:
    from collegium.cli.find import find_run
    from collegium.cli.text import short_id
    from collegium.domain.head import FINISHED

    async with session.open("own") as app:
        run = await find_run(app, text)
        was_over = (await app.state(run)).status in FINISHED
        if not was_over:
            await app.cancel(run, reason=reason)
            await note(app, "runs.cancelled", run, reason=reason)
            # What a dead process left open is closed here; what a living one holds it closes itself.
            await app.resume(run)
        state = await app.state(run)
    if session.is_json:
        session.emit({"run_id": run, "status": state.status})
    else:
        had = "had ended already: " if was_over else ""
        print(f"run {short_id(run)} {had}{state.status}")
    return 0


@command("resume")
@click.argument("run")
@click.option("--agents", metavar="FILE", type=click.Path(path_type=Path), help="Agents beside the built-in ones.")
@click.option("--as", "outcome", metavar="ANSWER", type=click.Choice(("done", "not-done", "retry")), help=_AS)
@click.option("--reason", metavar="TEXT", default="", help="Beside --as: for the journal, and for the agents.")
@click.option("--as-user", metavar="NAME", help="Beside --as: who answers; the user of this machine by default.")
@pass_session
def resume(
    session: Session, run: str, agents: Path | None, outcome: str | None, reason: str, as_user: str | None
) -> int:
    """Go on with RUN where it was stopped; nothing that was done is done again.

    With --as it is said what became of calls that may or may not have taken place: they did (done), they did not
    (not-done), or each is to be made once more (retry).
    """
    from collegium.cli.resumption import resumed

    answer = None if outcome is None else (outcome, reason, as_user)
    return session.execute(resumed(session, run, agents, answer))


@command("say")
@click.argument("run")
@click.argument("text")
@click.option("--as-user", metavar="NAME", help="Who says it; the user of this machine by default.")
@pass_session
def say(session: Session, run: str, text: str, as_user: str | None) -> int:
    """Add TEXT to what RUN is to do: its agents are told before their next model call."""
    if session.server is not None:
        from collegium.cli import remote

        return session.execute(remote.say(session, run, text))
    return session.execute(_say(session, run, text, as_user))


async def _say(session: Session, run: str, text: str, as_user: str | None) -> int:
    from collegium.cli.find import find_run
    from collegium.cli.person import user
    from collegium.cli.text import short_id

    async with session.open() as app:
        run = await find_run(app, run)
        state = await app.inbox.say(run, text, principal=user(as_user), tenant="default")
    if session.is_json:
        session.emit({"run_id": run, "status": state.status, "said": list(state.said)})
    else:
        print(f"run {short_id(run)} was told")
    return 0
