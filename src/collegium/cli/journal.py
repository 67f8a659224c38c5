"""The journal of a run, line by line."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from collegium.cli.find import find_run
from collegium.cli.text import count, one_line, tokens
from collegium.domain import body as b
from collegium.domain.event import Event

if TYPE_CHECKING:
    from collegium.cli.session import Session

_TYPE_WIDTH = 22


async def show_events(session: Session, text: str, *, after: int, is_following: bool) -> int:
    """Prints the events behind ``after``, and those to come where that is asked for."""
    collected: list[Any] = []
    async with session.open() as app:
        run = await find_run(app, text)
        start = (await app.state(run)).submitted_at
        async for event in app.events(run, after=after, is_following=is_following):
            if session.is_json:
                collected.append(msgspec.to_builtins(event))
            else:
                print_event(session, event, start)
    if session.is_json:
        session.emit({"run_id": run, "events": collected})
    return 0


def print_event(session: Session, event: Event, start: datetime) -> None:
    """Prints one event, with the time since ``start``."""
    from rich.text import Text

    console = session.out
    passed = (event.at - start).total_seconds()
    line = Text.assemble((f"{event.seq:>4}  {passed:>8.3f} s  ", "dim"), (f"{event.type:<{_TYPE_WIDTH}}", "cyan"))
    if event.task is not None:
        line.append(f" {one_line(event.task)}" + (f"#{event.attempt}" if event.attempt is not None else ""))
    if said := one_line(gist(event.body)):
        line.append(f"  {said}", style="dim")
    if console.is_terminal:
        line.truncate(console.width, overflow="ellipsis")
    console.print(line, soft_wrap=True)


def gist(body: b.Body) -> str:
    """What a body says, in a few words; empty where its type says it all."""
    match body:
        case b.RunSubmitted():
            return body.goal.text
        case b.RunPlanned():
            return f"{count(len(body.plan.tasks), 'task')}, {body.source}"
        case b.RunForked():
            return f"from {body.parent} behind {body.at_event}"
        case b.RunFinished():
            return " ".join(x for x in (body.status, body.reason) if x)
        case b.TaskRouted():
            return f"{body.agent}: {body.reason}"
        case b.TaskStarted():
            return f"{body.agent} with {body.model}"
        case b.TaskParked():
            return " ".join(x for x in (body.reason, body.detail) if x)
        case b.TaskJudged():
            return body.judgement.decision
        case b.TaskSettled():
            return " ".join(x for x in (body.outcome, body.reason) if x)
    return _gist_of_record(body)


def _gist_of_record(body: b.Body) -> str:
    match body:
        case b.StepProposed():
            calls = ", ".join(c.name for c in body.reply.tool_calls)
            return f"step {body.step}, {tokens(body.usage.tokens)}: {calls or body.reply.text}"
        case b.ToolIntended():
            return f"{body.tool} ({body.effect})"
        case b.ToolFinished():
            return f"{body.tool} {'ok' if body.result.is_ok else 'failed'}: {body.result.text}"
        case b.LimitExceeded():
            return body.detail
        case b.TaskAsked():
            return f"{body.task.capability}: {body.task.instructions}"
        case b.TaskQuarantined() | b.RunReplanned() | b.RunCancelRequested():
            return body.reason
        case b.RunSaid() | b.MessageSent() | b.MemoryWritten():
            return body.text
    return ""
