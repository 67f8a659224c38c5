"""Commands over a server: ``--server URL`` asks it instead of the store of this machine."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import msgspec

from collegium.cli.session import Session
from collegium.cli.text import ago, count, one_line, seconds, short_id, short_question, usd
from collegium.domain.errors import MissingExtra, UnknownName, UsageError
from collegium.domain.head import FINISHED

if TYPE_CHECKING:
    from collegium.cli.wanted import Wanted
    from collegium.client import Client
    from collegium.domain.plan import Plan
    from collegium.domain.report import RunReport

KEY = "COLLEGIUM_KEY"
MIN_PART = 4
_NOT_THERE = {
    "record": "--record",
    "replay": "--replay",
    "agents": "--agents",
}
_STYLES = {"succeeded": "green", "partial": "yellow", "failed": "bold red", "limited": "yellow", "running": "cyan"}


def client(session: Session) -> Client:
    """The client of the server that was named; its key comes from the environment alone."""
    try:
        from collegium.client import Client
    except ImportError as error:
        raise MissingExtra("--server needs the extra [client]: pip install 'collegium[client]'") from error
    return Client(session.server or "", key=os.environ.get(KEY) or None)


async def run(session: Session, wanted: Wanted) -> int:
    """Submits a goal, shows how it goes on, prints its end."""
    from collegium.cli.display import display_for
    from collegium.cli.outcome import hand_out
    from collegium.cli.view import RunView

    _refuse(wanted)
    view = RunView(session.now)
    display = display_for(session.err, view)
    async with client(session) as server:
        with display:
            display.note("handing over " + ", ".join(wanted.files) if wanted.files else "submitting the goal")
            handle = await server.submit(
                wanted.goal,
                files=wanted.files,
                model=wanted.model,
                limits=_limits(wanted),
                priority=wanted.priority,
                is_plan_only=wanted.is_plan_only,
                is_plan_reviewed=wanted.is_plan_reviewed,
                output_schema=wanted.output_schema,
                continues=None if wanted.continues is None else await find(server, wanted.continues),
                project=wanted.project,
            )
            session.run = handle.id
            session.is_left_to_workers = True
            if wanted.is_detached:
                return _submitted(session, handle.id)
            async for event in handle.events():
                display.take(event)
            report = await handle.result()
        written = [] if wanted.out is None else await _copy(server, report, wanted.out)
    code = hand_out(session, report)
    for path in written:
        session.tell(f"wrote {one_line(path)}")
    return code


async def list_runs(
    session: Session, *, statuses: tuple[str, ...], project: str | None, limit: int, after: str | None
) -> int:
    """Prints the newest runs; ``after`` is the ``next`` of a page before."""
    async with client(session) as server:
        page = await server.runs(statuses=statuses, project=project, limit=min(limit, 200), after=after)
    if session.is_json:
        session.emit(msgspec.to_builtins(page))
        return 0
    if not page.items:
        print("There is no such run." if statuses else "There is no run yet.")
        return 0
    from collegium.cli.columns import print_columns

    rows = [
        (
            (short_id(one.run_id), "cyan"),
            (one.status, _STYLES.get(one.status, "")),
            ("" if one.submitted_at is None else ago(one.submitted_at, session.now()), "dim"),
            (seconds(one.seconds) if one.finished_at is not None else "", "dim"),
            (usd(one.cost_usd), "dim"),
            "(pruned)" if one.is_pruned else one.goal,
        )
        for one in page.items
    ]
    header = ("run", "status", "started", "took", "cost", "goal")
    print_columns(session.out, header, rows, right=("started", "took", "cost"), is_cut=True)
    if page.next is not None:
        session.tell(f"more: --after {page.next}")
    return 0


async def show(session: Session, text: str) -> int:
    """Prints a run as it stands."""
    from collegium.cli.outcome import hand_out

    async with client(session) as server:
        report = await server.report(await find(server, text))
    hand_out(session, report)
    return 0


async def events(session: Session, text: str, *, after: int, is_following: bool) -> int:
    """Prints the events behind ``after``, and those to come where that is asked for."""
    from collegium.cli.journal import print_event

    collected: list[Any] = []
    start = None
    async with client(session) as server:
        run = await find(server, text)
        async for event in server.events(run, after=after, is_following=is_following):
            start = start or event.at
            collected.append(msgspec.to_builtins(event)) if session.is_json else print_event(session, event, start)
    if session.is_json:
        session.emit({"run_id": run, "events": collected})
    return 0


async def cancel(session: Session, text: str, reason: str) -> int:
    """Asks for a run's end."""
    async with client(session) as server:
        run = await find(server, text)
        was_over = (await server.report(run)).status in FINISHED
        if not was_over:
            await server.cancel(run, reason=reason)
        status = (await server.report(run)).status
    if session.is_json:
        session.emit({"run_id": run, "status": status})
    else:
        print(f"run {short_id(run)} {'had ended already: ' if was_over else ''}{status}")
    return 0


async def say(session: Session, text: str, said: str) -> int:
    """Adds to what a run is to do."""
    async with client(session) as server:
        run = await find(server, text)
        await server.say(run, said)
        status = (await server.report(run)).status
    if session.is_json:
        session.emit({"run_id": run, "status": status})
    else:
        print(f"run {short_id(run)} was told")
    return 0


async def list_questions(session: Session) -> int:
    """Prints what runs ask people."""
    async with client(session) as server:
        questions = await server.approvals()
    if session.is_json:
        session.emit({"items": [{"approval": q.approval_id, **msgspec.to_builtins(q)} for q in questions]})
        return 0
    if not questions:
        print("Nobody is asked anything.")
    for one in questions:
        print(f"{short_question(one.approval_id)}  {one.kind}, run {short_id(one.run_id)}")
        print(f"  {one_line(one.question)}")
    return 0


async def answer(session: Session, text: str, word: str, reason: str, plan: Plan | None) -> int:
    """Answers a question by its id, or the one open question of a run."""
    async with client(session) as server:
        questions = await server.approvals()
        wanted = text.removeprefix("apr_").removeprefix("run_")
        found = [q for q in questions if wanted in q.approval_id or wanted in q.run_id]
        if len(found) != 1:
            what = "nothing is asked" if not found else f"{count(len(found), 'question')} are asked"
            raise UsageError(f"{what} under {text!r}: `collegium approvals ls` lists what is", approval=text)
        await server.answer(found[0].approval_id, word, reason=reason, plan=plan)
        status = (await server.report(found[0].run_id)).status
    if session.is_json:
        session.emit({"approval": found[0].approval_id, "answer": word, "run_id": found[0].run_id, "status": status})
    else:
        print(f"{short_question(found[0].approval_id)}: {word}")
    return 0


async def find(server: Client, text: str) -> str:
    """The id of the run that ``text`` means: an id, a part of one, or ``last``. Raises ``UsageError``."""
    text = text.strip()
    if text == "last":
        newest = await server.runs(limit=1)
        if not newest.items:
            raise UnknownName('there is no run yet: `collegium run "..."` makes one', run=text)
        return newest.items[0].run_id
    part = text.removeprefix("run_").lower()
    if len(part) >= 32:  # whole
        return text
    if len(part) < MIN_PART:
        raise UsageError(f"{text!r} is too short to name a run: give at least {MIN_PART} characters", run=text)
    found: list[str] = []
    after: str | None = None
    while True:
        page = await server.runs(limit=200, after=after)
        found += [one.run_id for one in page.items if part in one.run_id.removeprefix("run_")]
        after = page.next
        if after is None or len(found) > 1:
            break
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageError(f"several runs have {text!r} in their id: give more of it", run=text)
    raise UnknownName(f"there is no run {text!r}; `collegium runs ls` lists them", run=text)


def _refuse(wanted: Wanted) -> None:
    """Raises ``UsageError`` for what only the machine that works can be told."""
    for name, option in _NOT_THERE.items():
        if getattr(wanted, name) is not None:
            raise UsageError(f"{option} goes without --server: the server has its own agents and models", option=option)


def _limits(wanted: Wanted) -> dict[str, object] | None:
    given = {
        "cost_usd": wanted.limit_usd,
        "tokens": wanted.limit_tokens,
        "tool_calls": wanted.limit_tool_calls,
        "parallel": wanted.parallel,
        "deadline_s": wanted.deadline_s,
    }
    return {name: value for name, value in given.items() if value is not None} or None


def _submitted(session: Session, run: str) -> int:
    if session.is_json:
        session.emit({"run_id": run, "status": "queued", "log": None})
    else:
        print(run)
        session.tell(f"the server works on it; `collegium runs events {short_id(run)} --follow` shows how")
    return 0


async def _copy(server: Client, report: RunReport, out: Path) -> list[str]:
    """Writes the files of a run below ``out`` and returns their paths; files of the same name are replaced."""
    written = []
    for artifact in report.artifacts:
        path = PurePosixPath(artifact.path)
        if path.is_absolute() or ".." in path.parts:
            raise UsageError(f"the file {artifact.path!r} would lie outside {out}", path=artifact.path)
        data = await server.file(report.run_id, artifact.path)
        try:
            (out / path).parent.mkdir(parents=True, exist_ok=True)
            (out / path).write_bytes(data)
        except OSError as error:
            raise UsageError(f"{out / path} cannot be written: {error.strerror}", path=str(out / path)) from error
        written.append(str(out / path))
    return written
