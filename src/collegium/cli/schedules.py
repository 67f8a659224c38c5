"""``collegium schedules``: goals that come again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from collegium.cli.deeds import note
from collegium.cli.lazy import Lazy, LazyGroup
from collegium.cli.options import command
from collegium.cli.session import Session, pass_session

if TYPE_CHECKING:
    from datetime import datetime

    from collegium.app import Collegium
    from collegium.cli.columns import Cell
    from collegium.domain.goal import Goal
    from collegium.domain.schedule import Firing, Schedule

schedules = LazyGroup(
    "schedules",
    help="""Goals that come again: add, look, pause, resume, remove.

    SCHEDULE is its name, its id, or any unique part of the id (at least 4 characters). Whichever worker is there fires
    what is due: `collegium serve` or `collegium worker` is one.""",
    lazy={
        "add": Lazy("collegium.cli.schedules:add", "Let a goal come again."),
        "ls": Lazy("collegium.cli.schedules:ls", "List schedules: when they come next, how the last run is."),
        "show": Lazy("collegium.cli.schedules:show", "Show a schedule and what became of its last times."),
        "pause": Lazy("collegium.cli.schedules:pause", "Let a schedule rest."),
        "resume": Lazy("collegium.cli.schedules:resume", "Let it go on with its next time."),
        "rm": Lazy("collegium.cli.schedules:rm", "Remove a schedule; its runs stay."),
    },
)
PRIORITIES = ("low", "normal", "high", "urgent")
MISSED, OVERLAP = ("skip", "once", "all"), ("skip", "allow", "queue")
_JITTER = "Put each time off by up to so much."
_MISSED = "Times without a worker: skip them, one run for all (once), or one for each of the last 24 (all)."
_OVERLAP = "While its last run goes on: skip the time, allow a second run, or queue one behind it."
_STYLES = {"submitted": "green", "skipped": "yellow", "missed": "yellow", "failed": "bold red"}


@command("add")
@click.argument("cron", metavar="CRON")
@click.argument("goal", metavar="GOAL")
@click.option("--tz", metavar="ZONE", default="UTC", help="Time zone that CRON is meant in, as Europe/Berlin; UTC.")
@click.option("--name", metavar="NAME", default="", help="What you may call it.")
@click.option("--files", multiple=True, metavar="PATH", help="A file or folder to work on, as it is now; repeatable.")
@click.option("--model", metavar="NAME", help="openai:NAME, local:NAME, openai-compatible:NAME@URL ...")
@click.option("--limit-usd", metavar="X", help="Each run spends at most so many US dollars.")
@click.option("--limit-tokens", metavar="N", type=click.IntRange(min=1), help="Each run uses at most so many.")
@click.option("--deadline-s", metavar="S", type=click.FloatRange(min=0, min_open=True), help="Each run ends by then.")
@click.option("--priority", metavar="LEVEL", type=click.Choice(PRIORITIES), default="normal", help="As with `run`.")
@click.option("--missed", type=click.Choice(MISSED), metavar="POLICY", default="once", help=_MISSED)
@click.option("--overlap", type=click.Choice(OVERLAP), metavar="POLICY", default="skip", help=_OVERLAP)
@click.option("--jitter-s", metavar="S", type=click.FloatRange(min=0), default=0.0, help=_JITTER)
@pass_session
def add(session: Session, /, **options: Any) -> int:
    """Let GOAL come again at the times that CRON names: five fields, or @hourly, @daily, @weekly, @monthly, @yearly.

    \b
      collegium schedules add "30 7 * * MON-FRI" "What is new in the incidents?" --files incidents/ --tz Europe/Berlin
      collegium schedules add @hourly "Check the queue" --overlap queue --name queue
    """  # noqa: D301  \b keeps click from wrapping what follows
    return session.execute(_add(session, options))


@command("ls")
@pass_session
def ls(session: Session) -> int:
    """List schedules in the order they were added."""
    return session.execute(_list(session))


@command("show")
@click.argument("schedule")
@pass_session
def show(session: Session, schedule: str) -> int:
    """Show SCHEDULE: its goal, its policies, and what became of its last times."""
    return session.execute(_show(session, schedule))


@command("pause")
@click.argument("schedule")
@click.option("--reason", metavar="TEXT", default="", help="Why; whoever looks is told.")
@pass_session
def pause(session: Session, schedule: str, reason: str) -> int:
    """Let SCHEDULE rest until it is resumed. A run under way goes on."""
    return session.execute(_pause(session, schedule, reason))


@command("resume")
@click.argument("schedule")
@pass_session
def resume(session: Session, schedule: str) -> int:
    """Let SCHEDULE go on with its next time; those that passed while it was paused are let go."""
    return session.execute(_resume(session, schedule))


@command("rm")
@click.argument("schedule")
@pass_session
def rm(session: Session, schedule: str) -> int:
    """Remove SCHEDULE. Its runs stay, and one under way goes on."""
    return session.execute(_remove(session, schedule))


async def _add(session: Session, options: dict[str, Any]) -> int:
    from msgspec.structs import replace

    from collegium.cli.person import user
    from collegium.cli.wanted import PRIORITIES as LEVELS
    from collegium.cli.wanted import read_usd
    from collegium.runtime.cron import Cron
    from collegium.wiring import default_model

    Cron(options["cron"], options["tz"])  # told before a model is looked for
    caps = {
        "cost_usd": read_usd(options.pop("limit_usd")),
        "tokens": options.pop("limit_tokens"),
        "deadline_s": options.pop("deadline_s"),
    }
    options["priority"] = LEVELS[options["priority"]]
    model = options.pop("model") or await default_model(session.settings)
    async with session.open(model=model) as app:
        await app.models.open(model)  # one that cannot be is said now, not tonight
        limits = replace(app.limits, **{name: cap for name, cap in caps.items() if cap is not None})
        schedule = await app.schedules.add(**options, limits=limits, model=model, principal=user(None))
        await note(app, "schedules.added", schedule.id)
        goal = await app.schedules.goal(schedule)
    if session.is_json:
        session.emit(_document(schedule, goal))
        return 0
    print(f"{_called(schedule)} comes {_when(schedule.next_at, schedule)}, and then as {schedule.cron} says")
    session.tell("it is fired by whichever worker is there: `collegium serve` or `collegium worker` is one")
    return 0


async def _list(session: Session) -> int:
    from contextlib import suppress

    from collegium.domain.errors import NotFound

    async with session.open() as app:
        found = []
        async for schedule in app.schedules.each():
            with suppress(NotFound):  # removed a moment ago
                goal = await app.schedules.goal(schedule)
                found.append((schedule, goal, await _status(app, schedule.last_run)))
    if session.is_json:
        session.emit({"items": [{**_document(s, g), "last_status": last} for s, g, last in found], "next": None})
        return 0
    if not found:
        print('There is no schedule yet: collegium schedules add "0 7 * * *" "..." makes one.')
        return 0
    from collegium.cli.columns import print_columns

    rows: list[tuple[Cell, ...]] = [
        (
            (_called(s), "cyan"),
            ("paused", "yellow") if s.paused is not None else _when(s.next_at, s),
            (f"{s.cron} {s.tz}", "dim"),
            (last or (s.firings[-1].outcome if s.firings else ""), "dim"),
            goal.text,
        )
        for s, goal, last in found
    ]
    print_columns(session.out, ("schedule", "next", "times", "last", "goal"), rows, is_cut=True)
    return 0


async def _show(session: Session, text: str) -> int:
    async with session.open() as app:
        schedule = await app.schedules.find(text)
        goal = await app.schedules.goal(schedule)
        statuses = {f.run: await _status(app, f.run) for f in schedule.firings}
    if session.is_json:
        firings = [{**_told(f), "status": statuses.get(f.run)} for f in schedule.firings]
        session.emit({**_document(schedule, goal), "firings": firings})
        return 0
    from collegium.cli.text import count, one_line

    print(one_line(goal.text))
    rests = f"paused: {one_line(schedule.paused)}" if schedule.paused is not None else ""
    print(f"  {rests or 'comes ' + _when(schedule.next_at, schedule)}; {schedule.cron} {schedule.tz}")
    print(f"  missed: {schedule.missed}, overlap: {schedule.overlap}, jitter: {schedule.jitter_s:g} s")
    print(f"  {schedule.id}, {goal.model}, {count(len(goal.files), 'file')}, added by {one_line(schedule.added_by)}")
    _print_firings(session, schedule, statuses)
    return 0


def _print_firings(session: Session, schedule: Schedule, statuses: dict[str | None, str | None]) -> None:
    from collegium.cli.columns import print_columns
    from collegium.cli.text import short_id

    rows: list[tuple[Cell, ...]] = [
        (
            _when(f.due_at, schedule),
            (f.outcome, _STYLES.get(f.outcome, "")),
            ("" if f.run is None else short_id(f.run), "cyan"),
            statuses.get(f.run) or ("gone" if f.run is not None else ""),
            f.reason if f.until is None else f"until {_when(f.until, schedule)}: {f.reason}",
        )
        for f in reversed(schedule.firings)
    ]
    if rows:
        print()
        print_columns(session.out, ("due", "outcome", "run", "status", "why"), rows)


async def _pause(session: Session, text: str, reason: str) -> int:
    async with session.open() as app:
        found = await app.schedules.find(text)
        schedule = await app.schedules.pause(found.id, reason=reason)
        await note(app, "schedules.paused", found.id, reason=reason)
        goal = await app.schedules.goal(schedule)
    if session.is_json:
        session.emit(_document(schedule, goal))
    else:
        print(f"{_called(schedule)} rests: `collegium schedules resume {_called(schedule)}` lets it go on")
    return 0


async def _resume(session: Session, text: str) -> int:
    async with session.open() as app:
        found = await app.schedules.find(text)
        schedule = await app.schedules.resume(found.id)
        await note(app, "schedules.resumed", found.id)
        goal = await app.schedules.goal(schedule)
    if session.is_json:
        session.emit(_document(schedule, goal))
    else:
        print(f"{_called(schedule)} comes {_when(schedule.next_at, schedule)}")
    return 0


async def _remove(session: Session, text: str) -> int:
    async with session.open() as app:
        schedule = await app.schedules.find(text)
        await app.schedules.remove(schedule.id)
        await note(app, "schedules.removed", schedule.id)
    if session.is_json:
        session.emit({"schedule_id": schedule.id, "is_removed": True})
    else:
        print(f"{_called(schedule)} is removed; its runs stay")
    return 0


def _document(schedule: Schedule, goal: Goal) -> dict[str, Any]:
    return {
        "schedule_id": schedule.id,
        "name": schedule.name,
        "status": "active" if schedule.paused is None else "paused",
        "paused": schedule.paused,
        "cron": schedule.cron,
        "tz": schedule.tz,
        "next_at": None if schedule.paused is not None else schedule.next_at,
        "missed": schedule.missed,
        "overlap": schedule.overlap,
        "jitter_s": schedule.jitter_s,
        "goal": goal.text,
        "model": goal.model,
        "files": [{"path": f.path, "size_bytes": f.size_bytes} for f in goal.files],
        "skipped": goal.skipped,
        "added_at": schedule.added_at,
        "added_by": schedule.added_by,
        "failures": schedule.failures,
        "last_run": schedule.last_run,
        "firings": [_told(f) for f in schedule.firings],
    }


def _told(firing: Firing) -> dict[str, Any]:
    return {
        "due_at": firing.due_at,
        "until": firing.until,
        "outcome": firing.outcome,
        "at": firing.at,
        "run_id": firing.run,
        "reason": firing.reason,
    }


async def _status(app: Collegium, run: str | None) -> str | None:
    """The status of a run; None where there is none, or none any more."""
    head = None if run is None else await app.stores.journal.head(run)
    return None if head is None else head.status


def _called(schedule: Schedule) -> str:
    """What a person may type for it."""
    from collegium.cli.text import one_line, short_schedule

    return one_line(schedule.name) or short_schedule(schedule.id)


def _when(moment: datetime, schedule: Schedule) -> str:
    from datetime import UTC

    from collegium.domain.errors import UsageError
    from collegium.runtime.cron import zone_of

    try:
        zone = zone_of(schedule.tz)
    except UsageError:  # another machine knows it
        zone = UTC
    return f"{moment.astimezone(zone):%a %Y-%m-%d %H:%M %Z}"
