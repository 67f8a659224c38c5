"""``collegium run``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from collegium.cli.options import command
from collegium.cli.session import Session, pass_session
from collegium.cli.wanted import PRIORITIES, Wanted, read_wanted, submit, with_agents

if TYPE_CHECKING:
    from collegium.app import Collegium, Run
    from collegium.cli.view import RunView

_PRIORITY = "low, normal, high or urgent: which work goes first."
_FILE = click.Path(path_type=Path)


@command("run")
@click.argument("goal", nargs=-1, required=True, metavar="GOAL")
@click.option("--files", multiple=True, metavar="PATH", help="A file or folder to work on; repeat for more.")
@click.option("--model", metavar="NAME", help="openai:NAME, local:NAME, openai-compatible:NAME@URL ...")
@click.option("--agents", metavar="FILE", type=_FILE, help="Agents beside the built-in ones, in TOML.")
@click.option("--limit-usd", metavar="X", help="Spend at most so many US dollars; held before each call.")
@click.option("--limit-tokens", metavar="N", type=click.IntRange(min=1), help="Use at most so many tokens.")
@click.option("--limit-tool-calls", metavar="N", type=click.IntRange(min=1), help="Call tools at most so often.")
@click.option("--parallel", metavar="N", type=click.IntRange(min=1), help="Work on at most so many tasks at once.")
@click.option("--deadline-s", metavar="S", type=click.FloatRange(min=0, min_open=True), help="End after so long.")
@click.option("--priority", metavar="LEVEL", type=click.Choice(list(PRIORITIES)), default="normal", help=_PRIORITY)
@click.option("--plan-only", "is_plan_only", is_flag=True, help="Show the plan and what it may cost, then stop.")
@click.option("--review-plan", "is_plan_reviewed", is_flag=True, help="Ask before the plan is followed; exits with 3.")
@click.option("--detach", "is_detached", is_flag=True, help="Work in the background; print the run's id.")
@click.option("--record", metavar="FILE", type=_FILE, help="Write every model call to a cassette.")
@click.option("--replay", metavar="FILE", type=_FILE, help="Answer every model call from a cassette.")
@click.option("--continue", "continues", metavar="RUN", help="Ask on from a run: its answer and files are known.")
@click.option("--output-schema", metavar="FILE", type=_FILE, help="Answer with JSON that fits this JSON Schema.")
@click.option("--new", "is_new", is_flag=True, help="Begin anew even if a run of this goal was interrupted.")
@click.option("--project", metavar="P", default="", help="What it belongs to: a name, for keys that are limited to it.")
@click.option("--out", metavar="DIR", type=_FILE, help="Copy the files that the run writes here.")
@pass_session
def run(session: Session, /, goal: tuple[str, ...], **options: Any) -> int:
    """Do GOAL: plan it, work on it, check the answer against the files. "-" reads the goal from standard input.

    \b
      collegium run "Who owns the payments service?" --files docs/
      collegium run "Sum up the incidents as a table" --files incidents/ --out results/
      git log -20 | collegium run - --model openai:gpt-5-mini
    """  # noqa: D301  \b keeps click from wrapping what follows
    wanted = read_wanted(goal, options)
    if session.server is not None:
        from collegium.cli import remote

        return session.execute(remote.run(session, wanted))
    if wanted.is_detached:
        from collegium.cli.detach import run_detached

        return run_detached(session, wanted)
    return session.execute(_run(session, wanted))


async def _run(session: Session, wanted: Wanted) -> int:
    from collegium.cli.display import display_for
    from collegium.cli.follow import follow
    from collegium.cli.outcome import copy_artifacts, hand_out, tell_copied
    from collegium.cli.text import short_id
    from collegium.cli.view import RunView

    view = RunView(session.now)
    display = display_for(session.err, view)
    settings = with_agents(session.settings, wanted.agents)
    async with session.open(
        "own",
        model=wanted.model,
        settings=settings,
        record=wanted.record,
        replay=wanted.replay,
        on_indexing=display.indexed,
        on_pull=display.pulled,
    ) as app:
        with display:
            handle = await submit(app, wanted, display)
            session.run = handle.id
            if handle.was_interrupted:
                session.tell(f"this goal was interrupted: run {short_id(handle.id)} goes on; --new begins anew")
            report = await follow(handle, display)
        if wanted.is_plan_only and report.status == "succeeded":
            return await _show_plan(session, app, view, handle)
        written: list[str] = []
        if wanted.out is not None:
            written = await copy_artifacts(app, report.artifacts, tenant="default", out=wanted.out)
    session.err.print() if session.err.is_terminal and not session.is_json else None
    code = hand_out(session, report)
    tell_copied(session, written)
    return code


async def _show_plan(session: Session, app: Collegium, view: RunView, handle: Run) -> int:
    from collegium.cli.estimate import estimate
    from collegium.cli.outcome import hand_out
    from collegium.cli.planned import print_plan

    state = await handle.state()
    profile = (await app.models.open(state.goal.model)).profile
    made = estimate(state, app.roster, profile)
    if session.is_json:
        return hand_out(session, await handle.result(), {"estimate": made})
    print_plan(session.out, state, made, view.total)
    return 0
